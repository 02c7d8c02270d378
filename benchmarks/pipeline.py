"""Pipeline of two stages: its bubble beside the formula, on a far link beside tensor parallelism, on two cores.

    python -m benchmarks.pipeline bubble --sizes tiny small    known and own stage times; M = 1, 2, 4, 8
    python -m benchmarks.pipeline link        two hosts, 100 Mbit/s, 5 ms: pipeline against tensor parallelism
    python -m benchmarks.pipeline host --sizes small mid      two ranks on two cores against one rank with two threads
    python -m benchmarks.pipeline host --sizes tiny --repetitions 1      whether it works

    python -m benchmarks.pipeline PART --table docs/parallel.md    only writes the table of the result into that page

Each writes benchmarks/results/pipeline_PART.json. ``link``, and the second half of ``bubble``, need root.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from autoglm.parallel.pipeline.bubble import ideal_bubble
from autoglm.synthetic import make_checkpoint
from benchmarks import results
from benchmarks.checkpoints import kept
from benchmarks.far_link import far_link
from benchmarks.namespaces import outputs
from benchmarks.pipeline_rank import Found
from benchmarks.results import Failure, Load, Result, Row
from benchmarks.rows import table, write_section

ROOT = Path(__file__).parents[1]
BITS, DELAY = 100e6, 0.005
LINK = "100 Mbit/s, 5 ms"
MICRO_BATCHES = (1, 2, 4, 8)
FORMULA = "(P-1)/(M+P-1)"
_TOKENS = 48
"""Of a micro-batch whose time is known."""
_HERE_SECONDS, _LINK_SECONDS = 0.15, 0.25
"""Known time of a stage: long against a hop, which the formula does not count."""
_COMMON: dict[str, Any] = {"threads": 2, "kv_cache_bytes": 2**27, "prefix_caching": False, "rank_timeout": 60.0}
_TP: dict[str, Any] = {"tensor_parallel_size": 2, "native_decode": False}
_PP: dict[str, Any] = {"pipeline_parallel_size": 2, "native_decode": False}
Runner = Callable[[list[str], float], str]
"""Runs a command for so many seconds at most; what it wrote."""
Metrics = dict[str, float]


class Report:
    """Rows and failures of one run."""

    def __init__(self, part: str, console: Console, repetitions: int, limit: float) -> None:
        self.part, self.console, self.repetitions, self.limit = part, console, repetitions, limit
        self.rows: list[Row] = []
        self.failures: list[Failure] = []
        self.load = os.getloadavg()[0]

    def add(
        self, case: str, subject: str, found: Metrics, base: tuple[str, Metrics], *, size: str, threads: int = 2
    ) -> None:
        """What one subject gave, beside the baseline's ``(name, values)``."""
        for metric, value in found.items():
            unit = "share" if metric == "bubble" else "tok/s"
            own = base[0] == subject
            ratio = None if own else results.ratio(value, base[1][metric], unit)
            self.rows.append(
                Row(
                    case=case,
                    subject=subject,
                    metric=metric,
                    value=round(value, 4),
                    unit=unit,
                    baseline="" if own else base[0],
                    ratio=ratio,
                    best=round(value, 4),
                    repetitions=self.repetitions,
                    size=size,
                    threads=threads,
                )
            )
            beside = "" if ratio is None else f", {ratio:.3f} times {base[0]}"
            self.console.print(f"{case}, {size}: {subject}: {metric} {value:.3f} {unit}{beside}", soft_wrap=True)

    def fail(self, case: str, subject: str, size: str, error: Exception) -> None:
        """A subject without numbers."""
        self.failures.append(Failure(subject=subject, size=size, threads=1, case=case, reason=str(error)[-500:]))
        self.console.print(f"[red]{case}: {subject}[/]: {error}", soft_wrap=True)

    def write(self, out: Path) -> None:
        """The result file."""
        end = os.getloadavg()[0]
        result = Result(
            name=f"pipeline_{self.part}",
            date=results.now(),
            commit=results.commit(ROOT),
            machine=results.machine(),
            load=Load(start=self.load, end=end, highest=max(self.load, end)),
            versions={"torch": str(torch.__version__)},
            settings={"link": LINK, "stage": f"{_HERE_SECONDS} s here, {_LINK_SECONDS} s over the link"},
            rows=self.rows,
            failures=self.failures,
        )
        results.write(result, out / f"pipeline_{self.part}.json")


def bubble(report: Report, cache: Path, sizes: list[str]) -> None:
    """Known stage times, here and over the link (on the tiny model); the own times of others, which share the cores."""
    here, there = "known stage times, one host", f"known stage times, {LINK}"
    for size in sizes:
        if size != "tiny":
            _bubbles(report, "own times, one host", cache, size, _two_ranks, 0.0)
    if "tiny" not in sizes:
        return
    _bubbles(report, here, cache, "tiny", _two_ranks, _HERE_SECONDS)
    try:
        with far_link(BITS, DELAY) as hosts:
            _bubbles(report, there, cache, "tiny", hosts.run, _LINK_SECONDS)
    except (PermissionError, RuntimeError, OSError) as error:
        report.fail(there, "pipeline", "tiny", error)


def _bubbles(report: Report, case: str, cache: Path, size: str, run: Runner, seconds: float) -> None:
    engine, options = dict(_PP), ["--prompt", str(_TOKENS * max(MICRO_BATCHES))]
    if seconds:
        engine = _PP | {"pipeline_bounds": "0,2"}
        options = ["--prompt", str(_TOKENS), "--each", "--ballast", str(seconds)]
    options += ["--work", "bubble", "--micro-batches", *(str(number) for number in MICRO_BATCHES)]
    try:
        found = _measured(report, run, _checkpoint(cache, size), engine, options)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        report.fail(case, "pipeline", size, error)
        return
    for number in MICRO_BATCHES:
        base = FORMULA, {"bubble": ideal_bubble(2, number)}
        report.add(f"{case}, M = {number}", "pipeline", found[str(number)], base, size=size)


def link(report: Report, cache: Path, sizes: list[str]) -> None:
    """The same requests over the same link."""
    deep: dict[str, Any] = {"pipeline_parallel_size": 2, "pipeline_in_flight": 4}
    subjects = {
        "TP 2": _TP,
        "TP 2, kernels": {"tensor_parallel_size": 2},
        "PP 2": _PP,
        "PP 2, 4 in flight": _PP | deep,
        "PP 2, 4 in flight, kernels": deep,
    }
    with far_link(BITS, DELAY) as hosts:
        runs: dict[str, Runner] = dict.fromkeys(subjects, hosts.run)
        for size in sizes:
            _compare(report, size, cache, subjects, runs, ["4"], ["--prompt", "192", "--answer", "8"])


def host(report: Report, cache: Path, sizes: list[str]) -> None:
    """Two ranks on two cores against one rank with two threads."""
    one: dict[str, Any] = {}
    subjects = {
        "one rank, 2 threads": one,
        "one rank, 2 threads, torch": {"native_decode": False},
        "TP 2": _TP,
        "TP 2, kernels": {"tensor_parallel_size": 2},
        "PP 2": _PP,
        "PP 2, kernels": {"pipeline_parallel_size": 2},
    }
    runs = {name: _one_rank if name.startswith("one") else _two_ranks for name in subjects}
    for size in sizes:
        prompt = {"tiny": "64", "mid": "96"}.get(size, "256")
        _compare(report, size, cache, subjects, runs, ["1", "6"], ["--prompt", prompt, "--answer", "16"])


def _compare(
    report: Report,
    size: str,
    cache: Path,
    subjects: dict[str, dict[str, Any]],
    runs: Mapping[str, Runner],
    requests: list[str],
    options: list[str],
) -> None:
    """All subjects on the same numbers of requests; the first is the baseline."""
    options = [*options, "--work", "throughput", "--requests", *requests]
    base: tuple[str, Found] | None = None
    for subject, changes in subjects.items():
        try:
            found = _measured(report, runs[subject], _checkpoint(cache, size), changes, options)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            report.fail("throughput", subject, size, error)
            continue
        base = base or (subject, found)
        for number in requests:
            report.add(f"{number} at once", subject, found[number], (base[0], base[1][number]), size=size)


def _measured(report: Report, run: Runner, checkpoint: Path, engine: dict[str, Any], options: list[str]) -> Found:
    config = json.dumps(_COMMON | engine)
    command = [sys.executable, "-m", "benchmarks.pipeline_rank", str(checkpoint), "--engine", config, *options]
    command += ["--repetitions", str(report.repetitions)]
    found: Found = json.loads(run(command, report.limit).strip().splitlines()[-1])
    return found


def _one_rank(command: list[str], limit: float) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    return done.stdout


def _two_ranks(command: list[str], limit: float) -> str:
    """Both on this host, started as torchrun would."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
    ranks = [
        subprocess.Popen(
            command,
            env=os.environ | world | {"RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    return outputs(ranks, command, limit)[0]


def _checkpoint(cache: Path, size: str) -> Path:
    return kept(cache / "checkpoints" / size, lambda path: make_checkpoint(path, size))


_PARTS = {"bubble": bubble, "link": link, "host": host}


def main() -> int:
    """Measure one part; status 1 if a subject failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=_PARTS)
    parser.add_argument("--sizes", nargs="+", default=["small"], help="tiny, small, mid (default: small)")
    parser.add_argument("--repetitions", type=int, default=3, help="after one that warms up (default: 3)")
    parser.add_argument("--limit", type=float, default=240.0, help="seconds for one subject (default: 240)")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "bench", help="checkpoints")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--table", type=Path, help="write the part's table into that page, measure nothing")
    options = parser.parse_args()
    if options.table is not None:
        found = results.read(options.out / f"pipeline_{options.part}.json")
        write_section(options.table, f"pipeline {options.part}", table(found))
        return 0
    console = Console(stderr=True)
    report = Report(options.part, console, options.repetitions, options.limit)
    try:
        _PARTS[options.part](report, options.cache, options.sizes)
    except PermissionError as error:
        console.print(f"not measured: {error}")
        return 1
    report.write(options.out)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
