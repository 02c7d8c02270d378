"""Idle-time prefill: time to first token of a dialogue's later steps with it and without, and what it costs at load.

    python -m benchmarks.idle_prefill                        both layouts, 3 repetitions
    python -m benchmarks.idle_prefill --cases glm4v-small --repetitions 1
    python -m benchmarks.idle_prefill --quick

Both subjects answer the same dialogues in turns; their tokens must be the same. The client waits (acts on the phone)
for 1 s or not at all between an answer and the next request. ``dialogues at once`` is throughput without a pause.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from autoglm.engine import Engine, EngineConfig
from autoglm.synthetic import make_checkpoint, make_phone_checkpoint
from benchmarks import results
from benchmarks.checkpoints import kept
from benchmarks.dialogues import Phone, Script, Step, play, serving
from benchmarks.results import Failure, Row
from benchmarks.rows import RESULTS, ROOT, finished, row

RESULT = RESULTS / "idle_prefill.json"
SUBJECTS = {"off": False, "on": True}
THINK = (1.0, 0.0)


@dataclass(frozen=True, slots=True)
class Case:
    """One model. ``at_once``: dialogues for the throughput; 0: not measured."""

    size: str
    make: Callable[[Path], Path]
    script: Script
    at_once: int


CASES = {
    "glm4v-tiny": Case("tiny", lambda p: make_checkpoint(p, "tiny"), Script(), 8),
    "glm4v-small": Case("small", lambda p: make_checkpoint(p, "small"), Script(steps=4, new_tokens=32), 0),
    "phone-tiny": Case("phone-tiny", make_phone_checkpoint, Script(), 8),
}


def main() -> int:
    """Measure and write; status 1 if tokens differ."""
    options = _arguments()
    start = os.getloadavg()[0]
    rows: list[Row] = []
    failures: list[Failure] = []
    for name in options.cases:
        case = CASES[name]
        script = Script(3, 12, 60, 8, 112) if options.quick else case.script
        checkpoint = kept(options.cache / "checkpoints" / case.size, case.make)
        fresh, differ = measure(name, case, script, checkpoint, options.repetitions)
        rows += fresh
        if differ:
            failures.append(
                Failure(subject="on", size=case.size, threads=1, case=name, reason=f"{differ} answers differ")
            )
    before = results.read(options.out).rows if options.out.exists() else []
    cases = {one.case for one in rows}
    settings = {name: str(case.script) for name, case in CASES.items()}
    whole = [*(one for one in before if one.case not in cases), *rows]
    result = finished("idle_prefill", whole, settings, start, failures)
    results.write(result, options.out)
    for one in rows:
        ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
        print(f"{one.case:34} {one.subject:4} {one.metric:26} {one.value:10.4f} {one.unit:9} {ratio}")
    return 1 if failures else 0


def measure(name: str, case: Case, script: Script, checkpoint: Path, repetitions: int) -> tuple[list[Row], int]:
    """Rows of one model, and how many answers were not the same."""
    found: dict[tuple[str, str, str], list[float]] = {}
    answers: dict[tuple[str, int], dict[str, list[list[int]]]] = {}
    plan = [(f"{name}, think {think:g} s", 1, think) for think in THINK]
    if case.at_once:
        plan.append((f"{name}, {case.at_once} at once", case.at_once, 0.0))
    for repetition in range(repetitions):
        for label, count, think in plan:
            for subject in list(SUBJECTS)[:: 1 if repetition % 2 else -1]:
                engine = Engine.from_checkpoint(checkpoint, _config(SUBJECTS[subject]))
                phones = [Phone(number, script) for number in range(count)]
                cpu = time.process_time()
                with serving(engine) as connection:
                    seconds = play(connection, phones, think)
                    cpu = time.process_time() - cpu
                engine.check_integrity()
                answers.setdefault((label, repetition), {})[subject] = [s.tokens for p in phones for s in p.steps]
                _record(found, label, subject, phones, (seconds, cpu), engine)
    differ = sum(a != b for both in answers.values() for a, b in zip(both["off"], both["on"], strict=True))
    return [_row(case, key, values, found) for key, values in found.items()], differ


def _record(
    found: dict[tuple[str, str, str], list[float]],
    label: str,
    subject: str,
    phones: list[Phone],
    took: tuple[float, float],
    engine: Engine,
) -> None:
    def add(metric: str, value: float) -> None:
        found.setdefault((label, subject, metric), []).append(value)

    later: list[Step] = [step for phone in phones for step in phone.steps[1:]]
    if len(phones) > 1:
        tokens = sum(len(s.tokens) for p in phones for s in p.steps)
        add("throughput", tokens / took[0])
        add("throughput, CPU", tokens / took[1])
        return
    add("TTFT later steps", median(s.ttft for s in later))
    add("TTFT later steps, CPU", median(s.ttft_cpu for s in later))
    add("tokens to compute", median(s.prompt - s.cached for s in later))
    if subject == "on":
        stats = engine.stats()
        add("predictions", stats.idle_predictions)
        add("hits", stats.idle_hits)
        add("computed ahead", stats.idle_computed_tokens)
        add("saved", stats.idle_saved_tokens)


_UNITS = {
    "TTFT later steps": "s",
    "TTFT later steps, CPU": "CPU s",
    "throughput": "tok/s",
    "throughput, CPU": "tok/CPU s",
    "saved": "tokens",
    "tokens to compute": "count",
}


def _row(
    case: Case, key: tuple[str, str, str], values: list[float], found: dict[tuple[str, str, str], list[float]]
) -> Row:
    label, subject, metric = key
    unit = _UNITS.get(metric, "count")
    base = found.get((label, "off", metric))
    against = base if subject != "off" else None
    return row(label, subject, metric, values, unit, baseline="off" if against else "", against=against, size=case.size)


def _config(idle: bool) -> EngineConfig:
    return EngineConfig(threads=1, kv_cache_bytes=128 * 2**20, idle_prefill=idle)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="short dialogues")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "bench")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
