"""The result file: one JSON document per benchmark, written and read here only.

Each row is one number with what it was measured on. ``ratio`` is how many times better it is than the
baseline's, above 1 is better whichever way the unit points; it is empty for the baseline itself and where
better has no meaning.
"""

from __future__ import annotations

import math
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

UNITS_MORE_IS_BETTER = {
    "s": False,
    "CPU s": False,
    "ms": False,
    "GB": False,
    "tok/s": True,
    "tok/CPU s": True,
    "tokens": True,
    "share": True,
    "count": False,
    "GB/s": True,
    "GFLOP/s": True,
    "ns": False,
    "us": False,
    "bytes": False,
    "checks": True,
    "stale": False,
    "steps": False,
    "error": False,
    "nats": False,
}


class Row(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False):
    """One measured number.

    Attributes:
        value: median over ``repetitions``.
        best: lowest or highest, whichever is better in this unit.
        size, threads, precision: of the checkpoint and the subject's process.
    """

    case: str
    subject: str
    metric: str
    value: float
    unit: str
    baseline: str
    ratio: float | None
    best: float
    repetitions: int
    size: str
    threads: int
    precision: str = "f32"


class Machine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where it was measured."""

    cpu: str
    cores: int
    memory_gb: float
    system: str


class Load(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One-minute load averages: what else was running shows here."""

    start: float
    end: float
    highest: float


class Failure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A subject that gave no numbers, and why."""

    subject: str
    size: str
    threads: int
    case: str
    reason: str


class Result(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole run."""

    name: str
    date: str
    commit: str
    machine: Machine
    load: Load
    versions: dict[str, str]
    settings: dict[str, str]
    rows: list[Row]
    failures: list[Failure]


def row_problems(row: Row) -> list[str]:
    """What is wrong with a row; empty if nothing is."""
    problems = []
    if row.unit not in UNITS_MORE_IS_BETTER:
        problems.append(f"unknown unit {row.unit!r}")
    numbers = [row.value, row.best, *([] if row.ratio is None else [row.ratio])]
    if not all(math.isfinite(n) and n >= 0 for n in numbers):
        problems.append(f"numbers must be finite and not negative, got {numbers}")
    if row.repetitions < 1 or row.threads < 1:
        problems.append("repetitions and threads start at 1")
    return problems


def validate(result: Result) -> None:
    """Raise :class:`ValueError` naming each bad row, and rows that say the same thing twice."""
    problems = []
    seen: set[tuple[str, ...]] = set()
    for row in result.rows:
        key = (row.case, row.subject, row.metric, row.size, str(row.threads), row.precision)
        found = row_problems(row) + (["appears twice"] if key in seen else [])
        seen.add(key)
        problems += [f"{'/'.join(key)}: {problem}" for problem in found]
    if problems:
        raise ValueError("not a valid result: " + "; ".join(problems))


def write(result: Result, file: Path) -> None:
    """Validate, then replace ``file`` in one step."""
    validate(result)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    partial.replace(file)


def read(file: Path) -> Result:
    """Raises :class:`msgspec.ValidationError` or :class:`ValueError` for anything but a valid result."""
    result = msgspec.json.decode(file.read_bytes(), type=Result)
    validate(result)
    return result


def ratio(value: float, baseline: float, unit: str) -> float | None:
    """How many times better than the baseline; ``None`` where one of them is zero."""
    if value <= 0 or baseline <= 0:
        return None
    return value / baseline if UNITS_MORE_IS_BETTER[unit] else baseline / value


def now() -> str:
    """UTC, ISO 8601, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def commit(root: Path) -> str:
    """Short commit id, with ``-dirty`` when tracked files differ from it; outside a repository what the environment's
    ``AUTOGLM_COMMIT`` says (a copy on a lent machine), else ``unknown``."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("AUTOGLM_COMMIT", "unknown")
    return done.stdout.strip()


def machine() -> Machine:
    """CPU name, cores this process may use, memory."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return Machine(
        cpu=cpu,
        cores=len(os.sched_getaffinity(0)),
        memory_gb=round(memory, 1),
        system=platform.platform(terse=True),
    )
