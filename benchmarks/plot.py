"""The plots: ratios to the baseline of the side by side, and tokens per CPU second of decoding."""

from __future__ import annotations

from pathlib import Path

from benchmarks.results import Result
from benchmarks.subjects import BASELINE, SUBJECTS

_METRICS = (
    ("a", "TTFT, CPU", "a TTFT"),
    ("a", "decode, CPU", "a decode"),
    ("b", "TTFT, CPU", "b TTFT"),
    ("b", "decode, CPU", "b decode"),
    ("c", "TTFT later steps, CPU", "c TTFT, later steps"),
    ("c", "total, CPU", "c total"),
    ("d", "throughput, CPU", "d throughput"),
)


def draw(result: Result, file: Path) -> None:
    """Write an SVG whose bytes depend on the result alone."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    found = {(r.size, r.threads, r.case, r.metric, r.subject): r.ratio for r in result.rows if r.ratio is not None}
    groups = list(dict.fromkeys((r.size, r.threads) for r in result.rows))
    others = [s for s in SUBJECTS if s != BASELINE and any(key[4] == s for key in found)]
    figure = Figure(figsize=(4.2 * max(len(groups), 1), 3.8), layout="constrained")
    panels = figure.subplots(1, max(len(groups), 1), squeeze=False, sharey=True)[0]
    for panel, (size, threads) in zip(panels, groups, strict=False):
        for index, subject in enumerate(others):
            ratios = [found.get((size, threads, case, metric, subject)) or 0.0 for case, metric, _ in _METRICS]
            at = [place + (index - (len(others) - 1) / 2) * 0.35 for place in range(len(_METRICS))]
            panel.barh(at, ratios, height=0.33, label=subject)
        panel.axvline(1.0, color="black", linewidth=1)
        panel.set_yticks(range(len(_METRICS)), [label for _, _, label in _METRICS])
        panel.set_title(f"{size}, {threads} thread" + ("s" if threads > 1 else ""))
        panel.set_xlabel(f"times better than {BASELINE}, CPU time")
    if groups:
        panels[0].invert_yaxis()
    if others:
        panels[0].legend(loc="lower right", fontsize="small")
    with mpl.rc_context({"svg.hashsalt": "side_by_side"}):
        figure.savefig(file, metadata={"Date": None})


def draw_decoding(result: Result, file: Path) -> None:
    """Tokens per CPU second, a panel per size and number of threads, a bar per subject; an SVG as above."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    rows = [r for r in result.rows if r.metric == "decode, CPU"]
    groups = list(dict.fromkeys((r.size, r.threads) for r in rows))
    figure = Figure(figsize=(4.2 * max(len(groups), 1), 3.2), layout="constrained")
    panels = figure.subplots(1, max(len(groups), 1), squeeze=False)[0]
    for panel, (size, threads) in zip(panels, groups, strict=False):
        bars = [r for r in rows if (r.size, r.threads) == (size, threads)]
        colours = ["tab:orange" if r.subject.startswith("llama.cpp") else "tab:blue" for r in bars]
        panel.barh([r.subject for r in bars], [r.value for r in bars], color=colours)
        panel.invert_yaxis()
        panel.set_title(f"{size}, {threads} thread" + ("s" if threads > 1 else ""))
        panel.set_xlabel("tokens per CPU second")
    with mpl.rc_context({"svg.hashsalt": "decode"}):
        figure.savefig(file, metadata={"Date": None})
