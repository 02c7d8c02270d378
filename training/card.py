"""The model card and the plot of the training curves, from what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from benchmarks.results import Result, read

_ROOT = Path(__file__).parents[1]
CURVES = _ROOT / "training" / "curves"
PLOT = _ROOT / "docs" / "images" / "mini_curves.png"
_GROUPS = (", language ", ", theme ", ", task ")
_STAGES = ("policy", "reading", "acting")
_SHOWN = {
    "policy": (("exact", "whole answers right, gold screen"),),
    "reading": (("read_label", "labels read right"), ("read_tap", "screens with every tap point right")),
    "acting": (("exact", "whole answers right, from pixels"),),
}


def read_curve(stage: str, folder: Path = CURVES) -> list[dict[str, float]]:
    """Rows of a stage's curve; a stage that was run again has a file each time: ``joint.jsonl``, ``joint-2.jsonl``."""
    rows: list[dict[str, float]] = []
    for file in sorted(folder.glob(f"{stage}*.jsonl")):
        seconds, samples = (rows[-1]["seconds"], rows[-1]["samples"]) if rows else (0.0, 0.0)
        for line in file.read_text(encoding="utf-8").splitlines():
            row: dict[str, float] = json.loads(line)
            rows.append({**row, "seconds": row["seconds"] + seconds, "samples": row["samples"] + samples})
    return rows


def plot_curves(out: Path = PLOT) -> None:
    """One panel a stage: what its validation measures, over minutes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(_STAGES), figsize=(12, 3.4), sharey=True, layout="constrained")
    for panel, stage in zip(panels, _STAGES, strict=True):
        rows = read_curve(stage)
        for name, label in _SHOWN[stage]:
            points = [(row["seconds"] / 60, row[name]) for row in rows if name in row]
            panel.plot(*zip(*points, strict=True) if points else ([], []), label=label)
        panel.set(title=stage, xlabel="minutes, one or two CPU cores", ylim=(0, 1))
        panel.grid(alpha=0.3)
        panel.legend(loc="lower right", fontsize=8)
    panels[0].set_ylabel("share, validation screens")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)
    plt.close(figure)


def write_card(folder: Path, evaluation: Path) -> None:
    """``README.md`` of the checkpoint folder; its figures come from ``evaluation`` alone."""
    result = read(evaluation)
    weights = (folder / "model.safetensors").stat().st_size / 1e6
    config = msgspec.json.decode((folder / "config.json").read_bytes())
    totals = [(s, read_curve(s)) for s in _STAGES]
    recipe = "\n".join(
        f"| {stage} | {rows[-1]['seconds'] / 60:.0f} min | {rows[-1]['samples']:,.0f} |"
        for stage, rows in totals
        if rows
    )
    text = _CARD.format(
        table=_table(result),
        size=f"{weights:.1f}",
        vocabulary=config["text_config"]["vocab_size"],
        recipe=recipe,
        date=result.date[:10],
        cpu=result.machine.cpu,
        cores=result.machine.cores,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def write_readme(evaluation: Path, readme: Path = _ROOT / "README.md") -> None:
    """The embedded model's lines between the markers of the project's README."""
    result = read(evaluation)
    values = {(row.case, row.metric): row for row in result.rows}
    lines = ["| autoglm-phone-mini, over HTTP | count | right | 95 % interval | screenshot to action, p50 / p95 |"]
    lines.append("| --- | ---: | ---: | ---: | ---: |")
    for (case, metric), row in values.items():
        if metric not in ("step accuracy", "task success") or any(group in case for group in _GROUPS):
            continue
        low, high = (values[case, f"{metric}, 95 % {end}"].value for end in ("low", "high"))
        speed = [values.get((case, f"screenshot to action, {p}")) for p in ("p50", "p95")]
        times = " / ".join(f"{one.value:.0f} ms" for one in speed if one)
        lines.append(f"| {case} | {row.repetitions} | {row.value:.1%} | {low:.1%} – {high:.1%} | {times} |")
    lines.append(
        f"\nMeasured by `make eval` on {result.machine.cores} cores, {result.machine.cpu}, {result.date[:10]}."
    )
    text = readme.read_text(encoding="utf-8")
    start, end = "<!-- eval:start -->", "<!-- eval:end -->"
    before, after = text.split(start)[0], text.split(end)[1]
    readme.write_text(f"{before}{start}\n{chr(10).join(lines)}\n{end}{after}", encoding="utf-8")


def _table(result: Result) -> str:
    values = {(row.case, row.metric): row for row in result.rows}
    lines = ["| measured | count | right | 95 % interval |", "| --- | ---: | ---: | ---: |"]
    for (case, metric), row in values.items():
        if metric in ("step accuracy", "task success"):
            low, high = (values[case, f"{metric}, 95 % {end}"].value for end in ("low", "high"))
            lines.append(f"| {case} | {row.repetitions} | {row.value:.1%} | {low:.1%} – {high:.1%} |")
    return "\n".join(lines)


_CARD = """\
# autoglm-phone-mini

A demonstration model of the `autoglm_phone` layout: it operates the simulated phone that this package draws. It reads
that phone's screens and nothing else; on a screenshot of a real phone its answers mean nothing.

- **In:** a screenshot (resized to 192 x 432), the instruction, the app in front, its own last thought. Chinese and
  English.
- **Out:** `<think>…</think><answer>do(action="Tap", element=[x,y])`, the Open-AutoGLM client's grammar. Coordinates are
  generated tokens; a tap goes to the centre of a cell of a 12 x 27 grid.
- **Shape:** convolutional stem and 3-block ViT, 324 visual tokens; 6-layer GLM decoder, hidden size 192, gated
  cross-attention in layers 2, 3 and 4, time gate of rank 32; vocabulary {vocabulary}; fp16, {size} MB.
- **Licence:** Apache-2.0, code, weights and data. The glyphs it learnt to read are those of WenQuanYi Micro Hei
  (Apache-2.0 or GPLv3 with font exception); the font itself is not part of the package.

## Figures

{table}

Measured over HTTP, by `make eval`, {date}, {cpu}, {cores} cores. A step is right if it is the expert's action: the
same kind, a tap inside the expert's target, the same text. A task is done if the phone ends in the wanted state and the
agent says how it ended: done, not there, or the person must take over.

## Data

Scenes of the simulated phone, made as they are needed from seeds: random layouts, icons, wallpapers, font scales and
screen sizes; both languages, both themes. The expert's policy labels them, on its own path and off it. Held out are
ranges of layout seeds, one paraphrase of every family, and whole templates whose words occur in others.

## Recipe

`python -m training` on two CPU cores; every stage resumes where it was stopped.

1. **policy**: the decoder learns what to do from fixed vectors that say what each cell of the screen shows.
2. **reading**: the vision tower learns to make those vectors of pixels. Both can run at the same time.
3. **acting**: the decoder learns on what the tower reads.

| stage | time, one or two cores | samples |
| --- | ---: | ---: |
{recipe}

One head of the first two cross-attentions is taught to look at the reason of the step, before the thought, and at the
cell that is to be tapped, before the coordinates. Two heads of one self-attention are taught to look at the token that
is to be copied from the instruction, and to say it. Curves: `training/curves/`, docs/images/mini_curves.png.

## Limits

- A closed set of labels: it finds the words of this simulator, not any text. It cannot read what a person has typed; it
  remembers, in its thought, that it was just typed.
- Its memory is one line of thought. After a surprise in the middle of a task it starts that part again.
- Ways of asking that are far from the training phrases are often misread.
"""
