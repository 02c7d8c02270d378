"""Two ranks of one thread against one rank of two threads: the same cores, prefill and decode, in one run.

    python -m benchmarks.tensor_parallel                   mid, 3 repetitions
    python -m benchmarks.tensor_parallel --sizes small     under two minutes
    python -m benchmarks.tensor_parallel --sizes tiny --prompt-tokens 64 --new-tokens 8
    python -m benchmarks.tensor_parallel --pause           load first, measure when a line comes on stdin

One rank and two decode on the compiled kernels, and one rank on torch, too. Subjects take turns. Their tokens must
agree with the baseline's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import autoglm
from autoglm.engine import Engine, EngineConfig
from autoglm.messages import Failed, Output, SamplingParams
from autoglm.prompt import Prompt
from autoglm.synthetic import make_checkpoint
from benchmarks import results
from benchmarks.checkpoints import kept
from benchmarks.results import Failure, Load, Result, Row
from benchmarks.rows import add_table_option, wrote_table
from benchmarks.side_by_side import ROOT

RESULT = ROOT / "benchmarks" / "results" / "tensor_parallel.json"
THREADS = 2
BASELINE = "1 rank, kernels"
SUBJECTS: dict[str, tuple[int, dict[str, Any]]] = {
    BASELINE: (THREADS, {}),
    "1 rank, torch": (THREADS, {"native_decode": False}),
    "2 ranks": (1, {"tensor_parallel_size": 2, "rank_timeout": 60.0}),
}
"""Threads of this process, and engine options. ``threads`` is for all ranks together."""


@dataclass(frozen=True, slots=True)
class Work:
    """One request: so many prompt tokens, so many new ones."""

    prompt_tokens: int
    new_tokens: int


def measure(engine: Engine, threads: int, work: Work, name: str) -> tuple[float, float, list[int]]:
    """Prefill and decode in tokens per second, and the tokens."""
    torch.set_num_threads(threads)
    ids = [1000 + i * 37 % 4000 for i in range(work.prompt_tokens)]
    sampling = SamplingParams(max_tokens=work.new_tokens, temperature=0.0, ignore_eos=True)
    engine.submit_prompt(name, Prompt(token_ids=ids, images=()), sampling, salt=name)
    start, first, tokens = time.perf_counter(), 0.0, []
    while engine.has_work:
        for event in engine.step():
            if isinstance(event, Failed):
                raise RuntimeError(event.error.message)
            if isinstance(event, Output):
                first = first or time.perf_counter()
                tokens += event.token_ids
    end = time.perf_counter()
    return work.prompt_tokens / (first - start), (len(tokens) - 1) / (end - first), tokens


def compare(
    size: str, checkpoint: Path, work: Work, repetitions: int, *, pause: bool
) -> tuple[list[Row], list[Failure]]:
    """All subjects, taking turns."""
    engines: dict[str, Engine] = {}
    speeds: dict[tuple[str, str], list[float]] = defaultdict(list)
    failures: list[Failure] = []
    try:
        for subject, (_, options) in SUBJECTS.items():
            config = EngineConfig(device="cpu", dtype="float32", threads=THREADS, kv_cache_bytes=2**28, **options)
            engines[subject] = Engine.from_checkpoint(checkpoint, config)
        if pause:
            input("loaded; a line on stdin starts the measurement\n")
        for turn in range(repetitions + 1):  # the first warms up
            found: dict[str, list[int]] = {}
            for subject, engine in engines.items():
                prefill, decode, found[subject] = measure(engine, SUBJECTS[subject][0], work, f"turn {turn}")
                if turn:
                    speeds[subject, "prefill"].append(prefill)
                    speeds[subject, "decode"].append(decode)
            failures += [
                Failure(
                    subject=subject,
                    size=size,
                    threads=THREADS,
                    case=f"turn {turn}",
                    reason="other tokens than one rank",
                )
                for subject, tokens in found.items()
                if tokens != found[BASELINE]
            ]
    finally:
        for engine in engines.values():
            engine.close()
    return [_row(subject, metric, speeds, work, size) for subject, metric in speeds], failures


def _row(subject: str, metric: str, speeds: dict[tuple[str, str], list[float]], work: Work, size: str) -> Row:
    mine = statistics.median(speeds[subject, metric])
    other = statistics.median(speeds[BASELINE, metric])
    return Row(
        case=f"{work.prompt_tokens} prompt tokens, {work.new_tokens} new",
        subject=subject,
        metric=metric,
        value=mine,
        unit="tok/s",
        baseline="" if subject == BASELINE else BASELINE,
        ratio=None if subject == BASELINE else results.ratio(mine, other, "tok/s"),
        best=max(speeds[subject, metric]),
        repetitions=len(speeds[subject, metric]),
        size=size,
        threads=THREADS,
    )


def main() -> int:
    """Measure and write the result; status 1 if a subject gave other tokens."""
    options = _arguments()
    if wrote_table(options, "tensor_parallel"):
        return 0
    console = Console(stderr=True)
    work = Work(options.prompt_tokens, options.new_tokens)
    rows: list[Row] = []
    failures: list[Failure] = []
    before = os.getloadavg()[0]
    for size in options.sizes:
        checkpoint = kept(options.cache / "checkpoints" / size, partial(make_checkpoint, size=size))
        more, failed = compare(size, checkpoint, work, options.repetitions, pause=options.pause)
        rows, failures = rows + more, failures + failed
    after = os.getloadavg()[0]
    results.write(
        Result(
            name="tensor_parallel",
            date=results.now(),
            commit=results.commit(ROOT),
            machine=results.machine(),
            load=Load(start=before, end=after, highest=max(before, after)),
            versions={"autoglm": autoglm.__version__, "torch": str(torch.__version__)},
            settings={"turns": "in turn"},
            rows=rows,
            failures=failures,
        ),
        options.out,
    )
    for row in rows:
        ratio = "" if row.ratio is None else f", {row.ratio:.2f} times {row.baseline}"
        console.print(f"{row.size}, {row.subject}: {row.metric} {row.value:.1f} tok/s{ratio}")
    for failure in failures:
        console.print(f"[red]{failure.subject}[/] ({failure.size}): {failure.reason}")
    return 1 if failures else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["mid"], help="tiny, small, mid (default: mid)")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--pause", action="store_true", help="wait for a line on stdin between loading and measuring")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "bench", help="derived files")
    parser.add_argument("--out", type=Path, default=RESULT)
    add_table_option(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
