"""The side by side: cases a to d of :mod:`benchmarks.workload` for every subject, in one run.

    python -m benchmarks.side_by_side                 tiny and small, 1 and 2 threads, 3 repetitions
    python -m benchmarks.side_by_side --quick         tiny, 1 thread, 1 repetition, a few tokens

All subjects are loaded, then take turns case by case (A B C, A B C, ...), so that a change of the machine's load
meets all of them. Only one works at a time.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import floor, metrics, results, workload
from benchmarks.checkpoints import kept
from benchmarks.process import SubjectError, SubjectProcess
from benchmarks.results import Failure, Load, Result, Row
from benchmarks.subjects import BASELINE, DEFAULT, SUBJECTS

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "side_by_side.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run. ``checkpoints``: a folder with one checkpoint per size; ``None``: synthetic ones are made."""

    subjects: tuple[str, ...]
    sizes: tuple[str, ...]
    threads: tuple[int, ...]
    cases: tuple[str, ...]
    repetitions: int
    spec: workload.Spec
    cache: Path
    checkpoints: Path | None = None


@dataclass(slots=True)
class Record:
    """What a run has gathered so far."""

    rows: list[Row] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    highest_load: float = 0.0


def main() -> int:
    """Run the plan of the command line, write the result; status 1 if a subject failed."""
    options = _arguments()
    plan = _plan(options)
    console = Console(stderr=True)
    result = run(plan, console)
    results.write(result, options.out)
    for failure in result.failures:
        console.print(f"[red]{failure.subject}[/] ({failure.size}, {failure.case}): {failure.reason}", soft_wrap=True)
    console.print(f"{len(result.rows)} rows in {options.out}")
    return 1 if result.failures else 0


def run(plan: Plan, console: Console) -> Result:
    """Run everything in ``plan``. A subject that fails is recorded in the result and left out from then on."""
    record = Record()
    start = os.getloadavg()[0]
    turns = (len(plan.cases) * plan.repetitions + 1) * len(plan.subjects) + 2
    columns = (TextColumn("{task.description:<44}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(plan.sizes) * len(plan.threads) * turns)
        for size in plan.sizes:
            checkpoint = _checkpoint(plan, size)
            for threads in plan.threads:
                _Group(plan, size, threads, checkpoint, record, progress, task).run()
    return Result(
        name="side_by_side",
        date=results.now(),
        commit=results.commit(ROOT),
        machine=results.machine(),
        load=Load(start=start, end=os.getloadavg()[0], highest=max(record.highest_load, start)),
        versions=record.versions,
        settings={name: str(value) for name, value in asdict(plan.spec).items()},
        rows=record.rows,
        failures=record.failures,
    )


class _Group:
    """One size at one number of threads: all subjects loaded, all cases, all repetitions."""

    def __init__(
        self,
        plan: Plan,
        size: str,
        threads: int,
        checkpoint: Path,
        record: Record,
        progress: Progress,
        task: Any,
    ) -> None:
        self.plan, self.size, self.threads, self.checkpoint = plan, size, threads, checkpoint
        self.record, self._progress, self._task = record, progress, task
        self._alive: dict[str, SubjectProcess] = {}
        self._samples: dict[str, list[metrics.Numbers]] = defaultdict(list)
        self._peak: dict[str, float] = {}
        self._answers: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def run(self) -> None:
        plan = self.plan
        cases = workload.build(self.checkpoint / "tokenizer.json", plan.spec)
        file = plan.cache / f"cases-{os.getpid()}.json"
        warm_up = workload.warm_up(cases)
        workload.dump([*warm_up, *cases], file)
        bandwidth = [self._bandwidth()]
        with ExitStack() as stack:
            stack.callback(file.unlink)
            for subject in plan.subjects:
                self._load(stack, subject, file, [case.name for case in warm_up])
            for case in plan.cases:
                for _ in range(plan.repetitions):
                    for subject in plan.subjects:
                        self._turn(subject, case)
        bandwidth.append(self._bandwidth())
        for subject, peak in self._peak.items():
            self._samples[subject].append({("memory", "peak RSS", "GB"): peak})
        self.record.rows += metrics.rows(self._samples, baseline=BASELINE, size=self.size, threads=self.threads)
        self._compare_tokens()
        self._add_floor(max(bandwidth))

    def _load(self, stack: ExitStack, subject: str, cases: Path, warm_up: list[str]) -> None:
        with self._step(f"{subject}: load and warm up"):
            try:
                process = SubjectProcess(subject, self.checkpoint, cases, self.plan.cache, self.threads)
                stack.enter_context(process)
                for case in warm_up:
                    process.run(case)
            except SubjectError as error:
                self._fail(subject, "load", error)
                return
            self._alive[subject] = process
            self.record.versions |= process.versions
            self._samples[subject].append({("load", "load", "s"): process.load_seconds})

    def _turn(self, subject: str, case: str) -> None:
        with self._step(f"{subject}: case {case}"):
            if subject not in self._alive:
                return
            try:
                message = self._alive[subject].run(case)
            except SubjectError as error:
                self._fail(subject, case, error)
                self._alive.pop(subject).close()
                return
            self._samples[subject].append(metrics.of_run(case, message))
            self._peak[subject] = message["rss"] / 1e9
            self._answers[subject, case] = message["answers"]
            self.record.highest_load = max(self.record.highest_load, message["load"])

    def _bandwidth(self) -> float:
        with self._step("memory read bandwidth"):
            return floor.read_bandwidth(self.threads)

    def _compare_tokens(self) -> None:
        for (subject, case), answers in self._answers.items():
            reference = self._answers.get((BASELINE, case))
            if reference is not None and subject != BASELINE:
                self._add_row(
                    case, subject, "greedy tokens as baseline", metrics.agreement(answers, reference), "share"
                )

    def _add_floor(self, bandwidth: float) -> None:
        tokens = bandwidth / floor.decode_weight_bytes(self.checkpoint)
        self._add_row("floor", "memory", "read bandwidth", bandwidth / 1e9, "GB/s")
        self._add_row("floor", "memory", "decode bound", tokens, "tok/s")

    def _add_row(self, case: str, subject: str, metric: str, value: float, unit: str) -> None:
        samples = {subject: [{(case, metric, unit): value}]}
        rows = metrics.rows(samples, baseline=BASELINE, size=self.size, threads=self.threads)
        self.record.rows += rows

    def _fail(self, subject: str, case: str, error: SubjectError) -> None:
        self.record.failures.append(
            Failure(subject=subject, size=self.size, threads=self.threads, case=case, reason=str(error)[-2000:])
        )

    def _step(self, what: str) -> _Step:
        return _Step(self._progress, self._task, f"{self.size}, {self.threads} thread(s), {what}")


class _Step:
    """Names the step in the progress bar on entry, counts it on exit."""

    def __init__(self, progress: Progress, task: Any, description: str) -> None:
        self._progress, self._task, self._description = progress, task, description

    def __enter__(self) -> None:
        self._progress.update(self._task, description=self._description)

    def __exit__(self, *_: object) -> None:
        self._progress.advance(self._task)


def _checkpoint(plan: Plan, size: str) -> Path:
    if plan.checkpoints is not None:
        return plan.checkpoints / size
    from autoglm.synthetic import make_checkpoint

    return kept(plan.cache / "checkpoints" / size, lambda path: make_checkpoint(path, size))


def _plan(options: argparse.Namespace) -> Plan:
    quick = options.quick
    sizes = options.sizes or (["tiny"] if quick else ["tiny", "small"])
    threads = options.threads or ([1] if quick else [1, 2])
    return Plan(
        subjects=tuple(options.subjects),
        sizes=tuple(sizes),
        threads=tuple(threads),
        cases=tuple(options.cases),
        repetitions=options.repetitions or (1 if quick else 3),
        spec=workload.QUICK if quick else workload.FULL,
        cache=options.cache,
        checkpoints=options.checkpoints,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny, 1 thread, 1 repetition, short prompts")
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=list(DEFAULT))
    parser.add_argument("--sizes", nargs="+", help="tiny, small, mid (default: tiny small)")
    parser.add_argument("--threads", nargs="+", type=int, help="default: 1 2")
    parser.add_argument("--cases", nargs="+", choices="abcd", default=list("abcd"))
    parser.add_argument("--repetitions", type=int, help="default: 3")
    parser.add_argument("--checkpoints", type=Path, help="folder with one checkpoint per size, instead of synthetic")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "bench", help="derived files")
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
