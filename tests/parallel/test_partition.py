"""Stages: never slower than the best of all partitions, found by trying each."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.errors import InvalidInputError
from autoglm.parallel.pipeline.costs import Costs, fastest
from autoglm.parallel.pipeline.partition import Partition, partition, stage_time


@st.composite
def cases(draw: st.DrawFn) -> tuple[Costs, int]:
    """Whole numbers, so that sums are exact and ties are real."""
    times = st.integers(0, 6).map(float)
    layers = draw(st.lists(times, min_size=1, max_size=7))
    costs = Costs(
        tuple(layers), draw(times), draw(times), draw(st.integers(0, 20)), draw(st.integers(0, len(layers) - 1))
    )
    return costs, draw(st.integers(1, len(layers)))


def every(costs: Costs, stages: int) -> Iterator[Partition]:
    """All partitions, the vision tower on every stage that may hold it; in the order in which ties are broken."""
    layers = len(costs.layers)
    for vision in range(stages):
        for cuts in combinations(range(1, layers), stages - 1):
            found = Partition((0, *cuts), layers, vision)
            if found.stage(vision).first <= costs.vision_before:
                yield found


def slowest(costs: Costs, found: Partition) -> float:
    return max(stage_time(costs, stage) for stage in found.stages())


@settings(max_examples=50, deadline=None)
@given(cases())
def test_equals_the_first_of_the_best_of_all(case: tuple[Costs, int]) -> None:
    costs, stages = case
    assert partition(costs, stages) == min(every(costs, stages), key=lambda found: slowest(costs, found))


@settings(max_examples=50, deadline=None)
@given(cases())
def test_every_layer_has_one_stage(case: tuple[Costs, int]) -> None:
    costs, stages = case
    found = partition(costs, stages).stages()
    assert [layer for s in found for layer in range(s.first, s.last)] == list(range(len(costs.layers)))
    assert [s.is_first for s in found] == [True] + [False] * (stages - 1)
    assert [s.is_last for s in found] == [False] * (stages - 1) + [True]
    assert sum(s.vision for s in found) == 1


def test_head_and_vision_weigh() -> None:
    layers = (1.0,) * 8
    assert partition(Costs(layers), 2).bounds == (0, 4)
    assert partition(Costs(layers, head=2.0), 2).bounds == (0, 5)
    towered = partition(Costs(layers, vision=4.0, vision_before=0), 2)
    assert (towered.bounds, towered.vision) == ((0, 2), 0)
    # With an image needed late, the tower may stand on the second stage, and does where the first is full.
    late = partition(Costs((3.0, 1.0, 1.0, 1.0), vision=2.0, vision_before=3), 2)
    assert (late.bounds, late.vision) == ((0, 2), 1)


@pytest.mark.parametrize("stages", [0, 3])
def test_impossible_numbers_are_refused(stages: int) -> None:
    with pytest.raises(InvalidInputError, match="2 layers cannot make") as error:
        partition(Costs((1.0, 1.0)), stages)
    assert error.value.value == stages


def test_bad_costs_are_refused() -> None:
    for bad in ({"layers": ()}, {"layers": (1.0, -1.0)}, {"layers": (1.0,), "vision_before": 1}):
        with pytest.raises(InvalidInputError):
            Costs(**bad)  # type: ignore[arg-type]


def test_the_first_call_is_not_timed() -> None:
    calls: list[int] = []
    assert fastest(lambda: calls.append(1), repeats=2) >= 0
    assert len(calls) == 3
