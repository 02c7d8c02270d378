"""Measure candidates within a time budget, and read the result: the best way to run, and where more workers hurt."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from msgspec import Struct

from autoglm.errors import AutoGLMError
from autoglm.parallel.tuning.candidates import Candidate

REPEATED = 1 / 3
"""Share of the ways, the best ones, that are measured again if there is time."""
HURTS = 0.95
"""More workers hurt where throughput falls below this share of its best."""


class Measured(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A candidate's throughputs, one a repetition, in the measure's own unit a second."""

    candidate: Candidate
    rates: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Median over repetitions."""
        return median(self.rates)


@dataclass(slots=True)
class Search:
    """What came of a search.

    Attributes:
        rates: by candidate, in the order measured.
        failed: candidates that could not run here, and why.
        left_out: those that the time did not reach.
    """

    rates: dict[Candidate, list[float]] = field(default_factory=dict)
    failed: dict[Candidate, str] = field(default_factory=dict)
    left_out: list[Candidate] = field(default_factory=list)

    def measured(self) -> list[Measured]:
        """In the order measured."""
        return [Measured(candidate=c, rates=tuple(rates)) for c, rates in self.rates.items()]


def search(
    candidates: Sequence[Candidate],
    measure: Callable[[Candidate], float],
    seconds: float,
    report: Callable[[Candidate | None, float], None] = lambda _candidate, _share: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Search:
    """Measure every candidate once in order, then the best ways again, while time is left.

    Args:
        measure: throughput of a candidate; raises :class:`AutoGLMError` or :class:`OSError` if it cannot run here.
        seconds: budget; the first candidate is measured whatever it takes, and none is started that would, going by
            the ones before, not end in time.
        report: called before each measurement with the candidate and the share of the budget used; at the end with
            ``None``.
    """
    found = Search()
    started = clock()
    spent: list[float] = []

    def one(candidate: Candidate) -> bool:
        begun = clock()
        if spent and begun - started + median(spent) > seconds:
            return False
        report(candidate, min(1.0, (begun - started) / seconds))
        try:
            rate = measure(candidate)
        except (AutoGLMError, OSError) as error:
            found.failed[candidate] = str(error)
        else:
            found.rates.setdefault(candidate, []).append(rate)
        spent.append(clock() - begun)
        return True

    for place, candidate in enumerate(candidates):
        if not one(candidate):
            found.left_out = list(candidates[place:])
            break
    ways = ranked(found.measured())
    again = {way for way, _ in ways[: math.ceil(len(ways) * REPEATED)]}
    for candidate in [c for c in found.rates if c.way in again]:
        if not one(candidate):
            break
    report(None, 1.0)
    return found


def ranked(measured: Sequence[Measured]) -> list[tuple[tuple[int, int, int, int], float]]:
    """Ways to run, the best first, each with its speed beside the first candidate's way: the geometric mean over the
    data sizes that both were measured on. A way that was not measured on all of them comes after those that were."""
    rates = {m.candidate: m.rate for m in measured if m.rate > 0}
    if not rates:
        return []
    base = next(iter(rates)).way
    sizes = {c.data_size: rate for c, rate in rates.items() if c.way == base}
    scores: dict[tuple[int, int, int, int], list[float]] = {}
    for candidate, rate in rates.items():
        if candidate.data_size in sizes:
            scores.setdefault(candidate.way, []).append(math.log(rate / sizes[candidate.data_size]))
    means = {way: (len(logs), math.exp(sum(logs) / len(logs))) for way, logs in scores.items()}
    order = sorted(means.items(), key=lambda item: item[1], reverse=True)
    return [(way, mean) for way, (_, mean) in order]


def curve(measured: Sequence[Measured], data_size: int) -> dict[int, float]:
    """Best throughput by number of workers, fewest first, on one size of data."""
    best: dict[int, float] = {}
    for m in measured:
        if m.candidate.data_size == data_size:
            best[m.candidate.workers] = max(m.rate, best.get(m.candidate.workers, 0.0))
    return dict(sorted(best.items()))


def turning_point(points: dict[int, float]) -> tuple[int, int | None]:
    """Where a curve has its top, and the first number of workers beyond it that clearly hurts (``None``: none seen)."""
    top = max(points, key=lambda workers: (points[workers], -workers))
    return top, next((w for w in points if w > top and points[w] < HURTS * points[top]), None)
