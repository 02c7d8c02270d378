"""The bubble of a pipeline that serves: what its stages stood idle while there was work in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from autoglm.parallel.pipeline.bubble import Interval, ideal_bubble, measured_bubble


@dataclass(frozen=True, slots=True)
class BubbleReport:
    """Over the latest passes; a pass goes from when something is in flight to when nothing is.

    Attributes:
        micro_batches: mean number of a pass, M. measured: idle share of all stages' time within the passes, 0 to 1.
        formula: ``(P - 1) / (M + P - 1)`` of each pass, weighed by its time.
    """

    micro_batches: float = 0.0
    measured: float = 0.0
    formula: float = 0.0


class PassCounter:
    """Where one pass ends and the next begins, in numbers of micro-batches; of at most the latest ``limit``."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sizes: deque[int] = deque()
        self._open = self._closed = 0
        self.in_flight = 0

    def launched(self) -> None:
        """One more is in flight."""
        self.in_flight += 1
        self._open += 1

    def landed(self) -> None:
        """One less; with the last the pass is over."""
        self.in_flight -= 1
        if not self.in_flight:
            self._close()

    def cut(self) -> list[int]:
        """Micro-batches of each pass since the last cut; one that goes on is cut in two."""
        self._close()
        sizes = list(self._sizes)
        self._sizes.clear()
        self._closed = 0
        return sizes

    def _close(self) -> None:
        if not self._open:
            return
        self._sizes.append(self._open)
        self._closed += self._open
        self._open = 0
        while self._closed - self._sizes[0] >= self._limit:
            self._closed -= self._sizes.popleft()


def report_of(sizes: Sequence[int], intervals: Sequence[Sequence[Interval]]) -> BubbleReport | None:
    """From the passes, and when each stage worked on their micro-batches; ``None``: on none.

    ``intervals[stage]`` may lack the oldest, the same of every stage; then the first passes are left out.
    """
    stages, held = len(intervals), min(len(stage) for stage in intervals)
    end, idle, formula, seconds = held, 0.0, 0.0, 0.0
    counts: list[int] = []
    for size in reversed(sizes):
        if size > end:
            break
        found = measured_bubble(
            [stage[len(stage) - held + end - size : len(stage) - held + end] for stage in intervals]
        )
        end -= size
        counts.append(size)
        seconds += found.seconds
        idle += found.seconds * found.share
        formula += found.seconds * ideal_bubble(stages, size)
    if not seconds:
        return None
    return BubbleReport(sum(counts) / len(counts), idle / seconds, formula / seconds)
