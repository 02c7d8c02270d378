"""`docs/benchmarks.md`, its plots, and the README's figures, all from the result files.

    python -m benchmarks.report

Everything quoted is generated here; nothing is typed by hand.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import decode, plot, results
from benchmarks.results import Result, Row
from benchmarks.rows import with_section
from benchmarks.side_by_side import RESULT, ROOT
from benchmarks.subjects import BASELINE, SUBJECTS

PLOT, DECODE_PLOT = "images/side_by_side.svg", "images/decode.svg"

_CASES = {
    "a": "Case a: one text prompt",
    "b": "Case b: one screenshot and text",
    "c": "Case c: phone dialogue, a new screenshot each step",
    "d": "Case d: several requests at once",
    "memory": "Memory",
    "load": "Loading",
}
_README_METRICS = (
    ("a", "TTFT, CPU", "text prompt, TTFT"),
    ("a", "decode, CPU", "text prompt, decode"),
    ("b", "TTFT, CPU", "one screenshot, TTFT"),
    ("c", "TTFT later steps, CPU", "dialogue, TTFT after the first step"),
    ("c", "total, CPU", "dialogue, whole"),
    ("d", "throughput, CPU", "several requests at once"),
    ("memory", "peak RSS", "peak memory"),
)


def main() -> int:
    """Write them all; status 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--decode", type=Path, default=decode.RESULT)
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    options = parser.parse_args()
    result = results.read(options.result)
    (options.docs / "images").mkdir(parents=True, exist_ok=True)
    decoding = results.read(options.decode)
    found = [results.read(file) for file in sorted(options.result.parent.glob("*.json"))]
    (options.docs / "benchmarks.md").write_text(page(result, decoding, found), encoding="utf-8")
    plot.draw(result, options.docs / PLOT)
    plot.draw_decoding(decoding, options.docs / DECODE_PLOT)
    text = options.readme.read_text(encoding="utf-8")
    text = with_section(text, "bench", figures(result))
    card = options.result.parent / "gpu.json"
    if card.exists():
        text = with_section(text, "gpu", gpu_figures(results.read(card)))
    options.readme.write_text(text, encoding="utf-8")
    return 0


def page(result: Result, decoding: Result, found: list[Result]) -> str:
    """The whole of `docs/benchmarks.md`: the side by side, decoding, and a line for every result file."""
    parts = ["# Benchmarks", _intro(result), f"![Ratios to {BASELINE}]({PLOT})"]
    for size, threads in groups(result):
        rows = [r for r in result.rows if (r.size, r.threads) == (size, threads)]
        parts.append(f"## {size}, {_threads(threads)}")
        parts += [
            f"### {title}\n\n{table([r for r in rows if r.case == case])}"
            for case, title in _CASES.items()
            if any(r.case == case for r in rows)
        ]
        parts.append(f"### Floor from memory bandwidth\n\n{_floor(rows)}")
    if result.failures:
        lines = [f"- {f.subject}, {f.size}, {_threads(f.threads)}, {f.case}" for f in result.failures]
        parts.append("## Without a result\n\n" + "\n".join(lines))
    parts.append(
        f"## Decoding\n\n![Decoding]({DECODE_PLOT})\n\n{decode.table(decoding)}\n\nHow: [decode.md](decode.md)."
    )
    parts.append(f"## All result files\n\n{index(found)}")
    return "\n\n".join(parts) + "\n"


def index(found: list[Result]) -> str:
    """One line per result file."""
    lines = [
        _line(["result", "measured", "commit", "machine", "rows", "without a result"]),
        _line(["---"] * 4 + ["---:"] * 2),
    ]
    for one in found:
        machine = f"{one.machine.cpu}, {one.machine.cores} cores"
        cells = [f"`{one.name}.json`", one.date, one.commit, machine, str(len(one.rows)), str(len(one.failures))]
        lines.append(_line(cells))
    return "\n".join(lines)


def figures(result: Result) -> str:
    """The README's table: the largest size measured, one thread if there, CPU time."""
    size, threads = readme_group(result)
    rows = {(r.case, r.metric, r.subject): r for r in result.rows if (r.size, r.threads) == (size, threads)}
    names = [s for s in SUBJECTS if any(key[2] == s for key in rows)]
    lines = [_line(["", *names]), _line(["---"] + ["---:"] * len(names))]
    for case, metric, label in _README_METRICS:
        cells = [rows.get((case, metric, name)) for name in names]
        unit = next((r.unit for r in cells if r is not None), None)
        if unit is not None:
            lines.append(_line([f"{label}, {unit}", *[_cell(r) for r in cells]]))
    about = (
        f"Size `{size}`, {_threads(threads)}, f32 weights, {result.machine.cpu}, commit {result.commit}, "
        f"{result.date[:10]}. "
        f"In brackets: times better than {BASELINE}. All cases: [docs/benchmarks.md](docs/benchmarks.md)."
    )
    return "\n".join(lines) + "\n\n" + about


def gpu_figures(result: Result) -> str:
    """The README's sentence on a GPU."""
    found = {(r.case, r.subject, r.metric): r for r in result.rows}

    def ours(case: str, metric: str = "latency", subject: str = "autoglm") -> Row:
        return found[f"glm4v {case}", subject, metric]

    steps = [ours(f"TPOT of {rows}") for rows in (1, 8, 32)]
    times = ", ".join(f"{row.value:.1f}" for row in steps)
    ratios = ", ".join(f"{row.ratio:.1f}" for row in steps if row.ratio is not None)
    share = ours("TPOT of 1", "share of bandwidth").value
    whole, host = ours("TTFT of a screenshot").value, ours("its part on the host").value
    theirs = ours("TTFT of a screenshot", subject=BASELINE).value
    return (
        f"On one {result.settings['device']}, 9 B shapes, bf16: {times} ms a token at batches of 1, 8 and 32 "
        f"({ratios} times {BASELINE}, which records no steps; {share:.0%} of the card's copy bandwidth at 1), and "
        f"{whole:.0f} ms from a {result.settings['screen']} PNG to the first token, {host:.0f} of them on the host's "
        f"processor ({BASELINE}, from processed pixels: {theirs:.0f}): [docs/gpu.md](docs/gpu.md)."
    )


def table(rows: list[Row]) -> str:
    """Metrics down, subjects across: median (times better than the baseline), best of the repetitions below it."""
    names = [s for s in SUBJECTS if any(r.subject == s for r in rows)]
    by_key = {(r.metric, r.unit, r.subject): r for r in rows}
    lines = [_line(["metric", "unit", *names]), _line(["---", "---"] + ["---:"] * len(names))]
    for metric, unit in dict.fromkeys((r.metric, r.unit) for r in rows):
        cells = [_cell(by_key.get((metric, unit, name)), best=True) for name in names]
        lines.append(_line([metric, unit, *cells]))
    return "\n".join(lines)


def groups(result: Result) -> list[tuple[str, int]]:
    """(size, threads) in the order measured."""
    return list(dict.fromkeys((r.size, r.threads) for r in result.rows))


def readme_group(result: Result) -> tuple[str, int]:
    """The last size measured (sizes go up) at its fewest threads."""
    found = groups(result)
    if not found:
        raise ValueError("the result holds no rows")
    size = found[-1][0]
    return size, min(threads for name, threads in found if name == size)


def _intro(result: Result) -> str:
    m, load = result.machine, result.load
    versions = ", ".join(f"{name} {version}" for name, version in sorted(result.versions.items()))
    return (
        f"{result.date}, commit {result.commit}. {m.cpu}, {m.cores} cores, {m.memory_gb} GB, {m.system}. "
        f"Load average {load.start:.1f} at the start, {load.end:.1f} at the end, {load.highest:.1f} at most. "
        f"{versions}. Greedy, f32 weights, end of sequence ignored; `llama.cpp` keeps its default 16-bit KV cache and "
        "flash attention, the others compute in f32 throughout.\n\n"
        f"Median of the repetitions; in brackets how many times better than {BASELINE} (above 1 is better in every "
        "unit); after the stroke the best repetition, where there were several. CPU seconds count all threads of a "
        "subject; on a shared machine they are steadier than wall time. `greedy tokens as baseline` is the share of "
        "tokens before the first that differs. How it is measured: `benchmarks/README.md`."
    )


def _floor(rows: list[Row]) -> str:
    """Decode at batch 1 against the bound that reading the weights once per token sets."""
    found = {(r.case, r.metric, r.subject): r for r in rows}
    bandwidth = found["floor", "read bandwidth", "memory"].value
    bound = found["floor", "decode bound", "memory"].value
    reached = [
        f"{name} {found['a', 'decode', name].best / bound:.0%}" for name in SUBJECTS if ("a", "decode", name) in found
    ]
    line = f"Reads {bandwidth:.1f} GB/s, so at most {bound:.1f} tok/s at batch 1."
    return line + (f" Reached in case a, best repetition: {', '.join(reached)}." if reached else "")


def _cell(row: Row | None, *, best: bool = False) -> str:
    if row is None:
        return "–"
    text = _number(row.value)
    if row.ratio is not None:
        text += f" ({row.ratio:.2f}×)"
    if best and row.repetitions > 1 and row.best != row.value:
        text += f" / {_number(row.best)}"
    return text


def _number(value: float) -> str:
    if value == 0 or value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def _threads(threads: int) -> str:
    return f"{threads} thread" + ("s" if threads > 1 else "")


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
