"""Decoding one sequence: the kernels, torch and llama.cpp, in f32, 8 and 4 bits, beside the bound that memory sets.

    python -m benchmarks.decode                       tiny, small and mid, 1 thread, 3 repetitions
    python -m benchmarks.decode --sizes mid --subjects autoglm llama.cpp
    python -m benchmarks.decode --table docs/decode.md    only writes the table of the result into that page

Case a of :mod:`benchmarks.workload` with a short prompt. Subjects take turns; the read bandwidth is measured before and
after them. `share of the bound` is the bytes of weights read per second beside that bandwidth (the better of the two).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
from rich.console import Console

from benchmarks import results, workload
from benchmarks.floor import F32_BYTES, head_and_layer_weights
from benchmarks.results import Result, Row
from benchmarks.rows import add_table_option, wrote_table
from benchmarks.side_by_side import ROOT, Plan, run

RESULT = ROOT / "benchmarks" / "results" / "decode.json"
SPEC = workload.Spec(
    text_tokens=64,
    image_side=112,
    image_text_tokens=24,
    new_tokens=64,
    system_tokens=64,
    user_tokens=12,
    step_new_tokens=6,
    steps=2,
    concurrency=2,
)
BASELINES = {
    "autoglm-torch": "llama.cpp",
    "autoglm": "llama.cpp",
    "autoglm-int8": "llama.cpp-q8_0",
    "autoglm-int4": "llama.cpp-q4_0",
    "llama.cpp": "",
    "llama.cpp-q8_0": "",
    "llama.cpp-q4_0": "",
}
"""Subjects in the order they run, each with the peer of its precision."""
_PRECISION = {"int8": "int8", "int4": "int4", "q8_0": "q8_0", "q4_0": "q4_0"}
_BYTES = {
    "f32": (F32_BYTES, F32_BYTES),
    "int8": (1, 1),
    "int4": (1, 0.5 + 2 / 32),
    "q8_0": (1 + 2 / 32, 1 + 2 / 32),
    "q4_0": (1 + 2 / 32, 0.5 + 2 / 32),
}
"""Bytes of one weight of the head, and of the layers."""
_KEPT = ("decode", "decode, CPU", "peak RSS", "read bandwidth")
_SHARE = "share of the bound"


def main() -> int:
    """Measure and write the result, or write its table; status 1 if a subject failed."""
    options = _arguments()
    if wrote_table(options, "decode", table):
        return 0
    console = Console(stderr=True)
    plan = Plan(
        subjects=tuple(options.subjects),
        sizes=tuple(options.sizes),
        threads=tuple(options.threads),
        cases=("a",),
        repetitions=options.repetitions,
        spec=replace(SPEC, new_tokens=options.new_tokens),
        cache=options.cache,
    )
    result = compared(run(plan, console), options.cache / "checkpoints")
    results.write(result, options.out)
    for failure in result.failures:
        console.print(f"[red]{failure.subject}[/] ({failure.size}): {failure.reason}", soft_wrap=True)
    console.print(f"{len(result.rows)} rows in {options.out}")
    return 1 if result.failures else 0


def precision_of(subject: str) -> str:
    """Of a subject's weights, by its name."""
    return _PRECISION.get(subject.rpartition("-")[2], "f32")


def compared(result: Result, checkpoints: Path) -> Result:
    """The rows on decoding, each beside the peer of its precision, with its share of the bound."""
    kept = [r for r in result.rows if r.metric in _KEPT]
    found = {(r.subject, r.metric, r.size, r.threads): r for r in kept}
    rows: list[Row] = []
    for row in kept:
        other = found.get((BASELINES.get(row.subject, ""), row.metric, row.size, row.threads))
        known: dict[str, str | float | None] = {"precision": precision_of(row.subject), "baseline": "", "ratio": None}
        if other is not None:
            known |= {"baseline": other.subject, "ratio": results.ratio(row.value, other.value, row.unit)}
        rows.append(msgspec.structs.replace(row, **known))
        bandwidth = found.get(("memory", "read bandwidth", row.size, row.threads))
        if row.metric == "decode, CPU" and bandwidth is not None and row.threads == 1:
            rows.append(_share(rows[-1], bandwidth, checkpoints / row.size))
    return msgspec.structs.replace(result, name="decode", rows=rows)


def _share(row: Row, bandwidth: Row, checkpoint: Path) -> Row:
    head, layers = head_and_layer_weights(checkpoint)
    per_head, per_layer = _BYTES[row.precision]
    speed = (head * per_head + layers * per_layer) / 1e9 / bandwidth.value
    shares = {"value": round(row.value * speed, 4), "best": round(row.best * speed, 4)}
    return msgspec.structs.replace(row, metric=_SHARE, unit="share", baseline="", ratio=None, **shares)


def table(result: Result) -> str:
    """One line per subject and size."""
    lines = [
        "| size | threads | subject | weights | tok/CPU s | tok/s | times the peer | share of the bound | peak RSS |",
        "|---|---:|---|---|---:|---:|---:|---:|---:|",
    ]
    found = {(r.subject, r.size, r.threads, r.metric): r for r in result.rows}
    for (subject, size, threads, metric), row in found.items():
        if metric != "decode, CPU":
            continue
        wall, share, memory = (found.get((subject, size, threads, m)) for m in ("decode", _SHARE, "peak RSS"))
        lines.append(
            f"| {size} | {threads} | {subject} | {row.precision} | {row.value:.1f} | {wall.value if wall else 0:.1f} "
            f"| {'' if row.ratio is None else f'{row.ratio:.2f}'} | {'' if share is None else f'{share.value:.0%}'} "
            f"| {memory.value if memory else 0:.2f} GB |"
        )
    reads = [f"{r.size}, {r.threads} thread(s): {r.value:.1f} GB/s" for r in result.rows if r.metric == _KEPT[3]]
    load = result.load
    about = (
        f"{result.date}, commit {result.commit}, {result.machine.cpu}, {result.machine.cores} cores. Load average "
        f"{load.start:.1f} at the start, {load.highest:.1f} at most. Read bandwidth: {'; '.join(reads)}."
    )
    return "\n".join(lines) + f"\n\n{about}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="+", choices=BASELINES, default=list(BASELINES))
    parser.add_argument("--sizes", nargs="+", default=["tiny", "small", "mid"], help="default: tiny small mid")
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--new-tokens", type=int, default=SPEC.new_tokens)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "bench", help="derived files")
    parser.add_argument("--out", type=Path, default=RESULT)
    add_table_option(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
