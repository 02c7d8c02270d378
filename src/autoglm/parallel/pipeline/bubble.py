"""The share of a pipeline's time in which its stages stand idle: by formula, and as measured.

``P`` stages, ``M`` micro-batches, one pass forward: the last result is there after ``M + P - 1`` times a stage's time,
and each stage works ``M`` of them (GPipe, Huang et al. 2019; without a backward pass 1F1B is the same schedule).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Interval = tuple[float, float]
"""Start and end of one micro-batch on one stage, in seconds of one clock."""


def ideal_bubble(stages: int, micro_batches: int) -> float:
    """``(P - 1) / (M + P - 1)``, for stages of equal time."""
    return (stages - 1) / (micro_batches + stages - 1)


def makespan(stage_times: Sequence[float], micro_batches: int, hop: float = 0.0) -> float:
    """Time of ``micro_batches`` equal ones over unequal stages: ``sum t + (M - 1) max t``, and ``hop`` a boundary."""
    return sum(stage_times) + (micro_batches - 1) * max(stage_times) + (len(stage_times) - 1) * hop


@dataclass(frozen=True, slots=True)
class Bubble:
    """Measured over one pass.

    Attributes:
        seconds: from the first start to the last end. busy: seconds each stage worked.
    """

    seconds: float
    busy: tuple[float, ...]

    @property
    def share(self) -> float:
        """Idle time of all stages over all their time, 0 to 1."""
        return 1.0 - sum(self.busy) / (len(self.busy) * self.seconds)


def measured_bubble(intervals: Sequence[Sequence[Interval]]) -> Bubble:
    """``intervals[stage]``: its micro-batches. Clocks of the stages must agree (one host: the monotonic clock)."""
    flat = [interval for stage in intervals for interval in stage]
    if not flat or any(not stage for stage in intervals):
        raise ValueError("every stage needs at least one interval")
    seconds = max(end for _, end in flat) - min(start for start, _ in flat)
    return Bubble(seconds, tuple(sum(end - start for start, end in stage) for stage in intervals))
