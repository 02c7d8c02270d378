"""The bubble: an ideal schedule measures what the formula says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.parallel.pipeline.bubble import Interval, ideal_bubble, makespan, measured_bubble


def schedule(times: list[float], micro_batches: int) -> list[list[Interval]]:
    """Each stage begins a micro-batch when it has ended the one before and the stage before has ended this one."""
    intervals: list[list[Interval]] = []
    arrivals = [0.0] * micro_batches
    for seconds in times:
        free, own = 0.0, []
        for number in range(micro_batches):
            begin = max(free, arrivals[number])
            free = arrivals[number] = begin + seconds
            own.append((begin, free))
        intervals.append(own)
    return intervals


@given(st.integers(1, 6), st.integers(1, 12))
def test_equal_stages_measure_the_formula(stages: int, micro_batches: int) -> None:
    found = measured_bubble(schedule([0.25] * stages, micro_batches))
    assert found.share == pytest.approx(ideal_bubble(stages, micro_batches))
    assert found.seconds == pytest.approx((micro_batches + stages - 1) * 0.25)


@given(st.lists(st.floats(0.1, 5.0), min_size=1, max_size=6), st.integers(1, 12))
def test_unequal_stages_take_the_predicted_time(times: list[float], micro_batches: int) -> None:
    assert measured_bubble(schedule(times, micro_batches)).seconds == pytest.approx(makespan(times, micro_batches))


def test_a_stage_without_work_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one interval"):
        measured_bubble([[(0.0, 1.0)], []])
