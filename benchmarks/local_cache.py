"""The first-level cache beside the published in-process caches: CPU time per operation, memory per entry.

    python -m benchmarks.local_cache             writes benchmarks/results/local_cache.json
    python -m benchmarks.local_cache --quick     a few seconds, few repetitions

Ours run with expiry, weights and statistics on; the others as they come, so the ratios to cachebox LRU are those to a
cache that does less. Cases "…, both with a time to live" compare the same times of ours with cachebox VTTL, the only
one of cachebox's that keeps a time for each entry (it evicts what expires first). All take turns in every repetition.
The time of the empty loop, measured in the same turns, is subtracted. One thread; CPU time of the whole process, so
that what a library does on threads of its own counts.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import results
from benchmarks.local_subjects import BY_NAME, SUBJECTS, Subject
from benchmarks.results import Load, Result, Row

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "local_cache.json"
ENTRIES = 1000
MEMORY_ENTRIES = 200_000
WITH_TTL = "both with a time to live"
TTL_BASELINE = "cachebox VTTL"
CASES = ("hit, int key", "hit, str key", "put with eviction", "Zipf get and put")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is done; ``operations`` per case, subject and repetition."""

    operations: int
    repetitions: int
    memory_entries: int


FULL = Plan(operations=5000, repetitions=15, memory_entries=MEMORY_ENTRIES)
QUICK = Plan(operations=2000, repetitions=2, memory_entries=20_000)


def main() -> int:
    """Measure, print, write; status 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--memory-of", choices=sorted(BY_NAME), help="print one subject's resident bytes per entry")
    parser.add_argument("--entries", type=int, default=MEMORY_ENTRIES, help="for --memory-of")
    options = parser.parse_args()
    if options.memory_of:
        print(resident_bytes(BY_NAME[options.memory_of], options.entries))
        return 0
    result = run(QUICK if options.quick else FULL)
    results.write(result, options.out)
    for row in result.rows:
        ratio = "" if row.ratio is None else f"{row.ratio:6.2f}x {row.baseline}"
        print(f"{row.case:20} {row.subject:24} {row.value:9.1f} {row.unit:6} {ratio}")
    return 0


def run(plan: Plan) -> Result:
    """All cases of all subjects."""
    start = os.getloadavg()[0]
    times = measure(plan)
    rows = time_rows(times) + memory_rows(plan)
    end = os.getloadavg()[0]
    packages = sorted({subject.package for subject in SUBJECTS if subject.package})
    return Result(
        name="local_cache",
        date=results.now(),
        commit=results.commit(ROOT),
        machine=results.machine(),
        load=Load(start=start, end=end, highest=max(start, end)),
        versions={"python": sys.version.split()[0]} | {name: metadata.version(name) for name in packages},
        settings={
            "entries": str(ENTRIES),
            "operations": str(plan.operations),
            "ours": "time to live 600 s, weight limit, statistics on",
            "time": "CPU of the process, empty loop subtracted; value is the median, best the lowest",
            "memory": f"resident set, {plan.memory_entries} entries, keys and values made before",
        },
        rows=rows,
        failures=[],
    )


# --- time ------------------------------------------------------------------------------------------------------------


def measure(plan: Plan) -> dict[tuple[str, str], list[float]]:
    """(case, subject) to nanoseconds per operation, one for each repetition."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    made = {case: _keys(case, plan.operations) for case in CASES}
    caches = {(case, s.name): _filled(s, made[case][0]) for case in CASES for s in SUBJECTS}
    for repetition in range(plan.repetitions):
        for case in CASES:
            keys = made[case][1 + repetition % 2]
            floor = _timed(_nothing, None, keys)
            for subject in SUBJECTS:
                work = _work(case, subject)
                times[case, subject.name].append(max(_timed(work, caches[case, subject.name], keys) - floor, 0.1))
    return times


def _work(case: str, subject: Subject) -> Callable[[Any, Sequence[Any]], None]:
    if case.startswith("hit"):
        return _hits
    return subject.puts if case.startswith("put") else subject.mixed


def _hits(cache: Any, keys: Sequence[Any]) -> None:
    get = cache.get
    for key in keys:
        get(key)


def _nothing(_cache: Any, keys: Sequence[Any]) -> None:
    for _key in keys:
        pass


def _timed(work: Callable[[Any, Sequence[Any]], None], cache: Any, keys: Sequence[Any]) -> float:
    work(cache, keys[-ENTRIES:])  # what ran before has filled the CPU's caches with its own
    started = time.process_time_ns()
    work(cache, keys)
    return (time.process_time_ns() - started) / len(keys)


def _keys(case: str, operations: int) -> tuple[list[Any], list[Any], list[Any]]:
    """What the cache is filled with, and two lists of keys to use in turn; equal keys are different objects."""
    rng = random.Random(5)
    rounds = max(operations // ENTRIES, 1)
    if case == "hit, str key":
        looked_up = [f"session:{n}:{'x' * 8}" for n in range(ENTRIES)]
        return [f"session:{n}:{'x' * 8}" for n in range(ENTRIES)], looked_up * rounds, looked_up[::-1] * rounds
    if case == "hit, int key":
        numbers = [n + 10_000 for n in range(ENTRIES)]
        return [n + 10_000 for n in range(ENTRIES)], numbers * rounds, numbers[::-1] * rounds
    if case == "put with eviction":
        fresh = [n + 10_000 for n in range(2 * operations)]
        return fresh[:ENTRIES], fresh[:operations], fresh[operations:]
    ranks = range(1, 10_001)
    weights = [rank**-0.99 for rank in ranks]
    drawn = rng.choices(ranks, weights, k=2 * operations)
    return list(range(ENTRIES)), drawn[:operations], drawn[operations:]


def _filled(subject: Subject, keys: Sequence[Any]) -> Any:
    cache = subject.make(ENTRIES)
    subject.puts(cache, keys)
    return cache


def time_rows(times: dict[tuple[str, str], list[float]]) -> list[Row]:
    """Medians, and their ratios to the baseline's."""
    rows = []
    for (case, name), found in times.items():
        baseline = BY_NAME[name].baseline
        value = statistics.median(found)
        against = statistics.median(times[case, baseline])
        rows.append(
            _row(case, name, "CPU per operation", value, "ns", against, best=min(found), repetitions=len(found))
        )
    return rows + [row for case in CASES for row in _rows_with_ttl(case, times)]


def _rows_with_ttl(case: str, times: dict[tuple[str, str], list[float]]) -> list[Row]:
    """Ours beside the rival that keeps a time to live, too: the same measurements, another baseline."""
    against = statistics.median(times[case, TTL_BASELINE])
    rows = []
    for name in (TTL_BASELINE, "autoglm lru", "autoglm lfu", "autoglm adaptive"):
        found = times[case, name]
        value, best = statistics.median(found), min(found)
        row = _row(f"{case}, {WITH_TTL}", name, "CPU per operation", value, "ns", best=best, repetitions=len(found))
        ratio = None if name == TTL_BASELINE else results.ratio(value, against, "ns")
        rows.append(msgspec.structs.replace(row, baseline=TTL_BASELINE, ratio=ratio))
    return rows


# --- memory ----------------------------------------------------------------------------------------------------------


def memory_rows(plan: Plan) -> list[Row]:
    """Resident bytes per entry of every subject, each in a process of its own; allocated bytes of ours."""
    found = {subject.name: _memory_in_child(subject, plan.memory_entries) for subject in SUBJECTS if subject.memory}
    rows = [
        _row("memory", name, "resident per entry beyond key and value", value, "bytes", found[BY_NAME[name].baseline])
        for name, value in found.items()
    ]
    for name in ("autoglm lru", "autoglm lfu", "autoglm adaptive"):
        value = allocated_bytes(BY_NAME[name], ENTRIES)
        rows.append(
            _row(f"memory, {ENTRIES} entries", name, "allocated per entry beyond key and value", value, "bytes")
        )
    return rows


def _memory_in_child(subject: Subject, entries: int) -> float:
    command = [sys.executable, "-m", "benchmarks.local_cache", "--memory-of", subject.name, "--entries", str(entries)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)


def resident_bytes(subject: Subject, entries: int) -> float:
    """Growth of this process' resident set by a full cache, per entry. Once per process: freed memory is used again."""
    subject.puts(subject.make(10), [0])  # imports
    keys = [n + 10_000 for n in range(entries)]
    gc.collect()
    before = _resident()
    cache = subject.make(entries)
    subject.puts(cache, keys)
    gc.collect()
    return max(_resident() - before, 0) / entries


def allocated_bytes(subject: Subject, entries: int) -> float:
    """What Python's allocators gave for a full cache, per entry: exact, for extensions that use them."""
    keys = [n + 10_000 for n in range(entries)]
    tracemalloc.start()
    try:
        cache = subject.make(entries)
        subject.puts(cache, keys)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return used / entries


def _resident() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _row(
    case: str,
    subject: str,
    metric: str,
    value: float,
    unit: str,
    against: float | None = None,
    *,
    best: float | None = None,
    repetitions: int = 1,
) -> Row:
    baseline = "" if against is None else BY_NAME[subject].baseline
    same = against is None or subject == baseline
    return Row(
        case=case,
        subject=subject,
        metric=metric,
        value=value,
        unit=unit,
        baseline=baseline,
        ratio=None if same or against is None else results.ratio(value, against, unit),
        best=value if best is None else best,
        repetitions=repetitions,
        size=f"{ENTRIES} entries" if unit == "ns" else "",
        threads=1,
        precision="",
    )


if __name__ == "__main__":
    sys.exit(main())
