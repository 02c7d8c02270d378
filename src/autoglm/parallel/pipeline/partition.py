"""Contiguous stages whose slowest is as fast as possible.

Time of a pipeline is the sum of its stages for the first micro-batch, and the slowest stage for each further one, so
the slowest is what counts. Exact, by dynamic programming over (stage, first layer): stages x layers^2 steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from autoglm.errors import InvalidInputError
from autoglm.parallel.pipeline.costs import Costs


@dataclass(frozen=True, slots=True)
class Stage:
    """Layers ``[first, last)`` of a model.

    Attributes:
        vision: it encodes images. largest: layers of the stage with the most; its KV decides how many blocks all have.
    """

    index: int
    count: int
    first: int
    last: int
    vision: bool
    largest: int

    @property
    def is_first(self) -> bool:
        """It embeds tokens."""
        return self.index == 0

    @property
    def is_last(self) -> bool:
        """It gives logits."""
        return self.index == self.count - 1


@dataclass(frozen=True, slots=True)
class Partition:
    """``bounds[s]`` is the first layer of stage ``s``; ``vision`` the stage of the vision tower."""

    bounds: tuple[int, ...]
    layers: int
    vision: int

    def stage(self, index: int) -> Stage:
        """What stage ``index`` holds."""
        ends = (*self.bounds[1:], self.layers)
        largest = max(end - first for first, end in zip(self.bounds, ends, strict=True))
        return Stage(index, len(self.bounds), self.bounds[index], ends[index], index == self.vision, largest)

    def stages(self) -> list[Stage]:
        """All, in order."""
        return [self.stage(index) for index in range(len(self.bounds))]


def stage_time(costs: Costs, stage: Stage) -> float:
    """Predicted time of one stage, in the unit of the costs."""
    total = sum(costs.layers[stage.first : stage.last])
    total += costs.embedding if stage.is_first else 0.0
    total += costs.head if stage.is_last else 0.0
    return total + (costs.vision if stage.vision else 0.0)


def partition(costs: Costs, stages: int) -> Partition:
    """The best contiguous partition into ``stages``, each with at least one layer.

    Of equally good ones it is the one with the vision tower on the earliest stage, then with the earliest bounds: the
    first stages are the shorter ones, since rank 0 schedules and samples beside its stage.

    Raises:
        InvalidInputError: more stages than layers, or less than one.
    """
    layers = len(costs.layers)
    if not 1 <= stages <= layers:
        raise InvalidInputError(
            f"{layers} layers cannot make {stages} pipeline stages", field="stages", limit=layers, value=stages
        )
    found = [_Search(costs, stages, vision) for vision in range(stages)]
    best = min(found, key=lambda s: (s.slowest, s.vision))
    return Partition(best.bounds(), layers, best.vision)


class _Search:
    """The best partition with the tower on stage ``vision``; ``slowest`` is infinite if there is none."""

    def __init__(self, costs: Costs, stages: int, vision: int) -> None:
        self.costs, self.stages, self.vision = costs, stages, vision
        self.layers = len(costs.layers)
        self._sums = [0.0, *accumulate(costs.layers)]
        self._best = [[float("inf")] * (self.layers + 1) for _ in range(stages + 1)]
        self._best[stages][self.layers] = 0.0
        for stage in reversed(range(stages)):
            for first in range(self.layers):
                ends = range(first + 1, self.layers + 1)
                self._best[stage][first] = min(self._with(stage, first, last) for last in ends)
        self.slowest = self._best[0][0]

    def bounds(self) -> tuple[int, ...]:
        """The earliest bounds whose slowest stage is no slower than the best."""
        bounds = [0]
        for stage in range(self.stages - 1):
            ends = range(bounds[-1] + 1, self.layers + 1)
            bounds.append(next(last for last in ends if self._with(stage, bounds[-1], last) <= self.slowest))
        return tuple(bounds)

    def _with(self, stage: int, first: int, last: int) -> float:
        """The slowest of this stage on ``[first, last)`` and of the best that can follow."""
        if stage == self.vision and first > self.costs.vision_before:
            return float("inf")
        own = self._sums[last] - self._sums[first]
        own += self.costs.embedding if stage == 0 else 0.0
        own += self.costs.head if stage == self.stages - 1 else 0.0
        own += self.costs.vision if stage == self.vision else 0.0
        return max(own, self._best[stage + 1][last])
