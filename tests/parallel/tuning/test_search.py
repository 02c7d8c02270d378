"""The search keeps to its budget, and reads curves as a person would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from autoglm.errors import InvalidInputError
from autoglm.parallel.tuning.candidates import Candidate, grid, powers_up_to
from autoglm.parallel.tuning.reduction import ITEMS, reduction_rate
from autoglm.parallel.tuning.search import Measured, curve, ranked, search, turning_point


class Clock:
    """Time that passes by what is measured."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.floats(0.1, 20), min_size=1, max_size=30), st.floats(0.1, 200))
def test_no_measurement_starts_that_would_not_end_in_time(costs: list[float], seconds: float) -> None:
    clock = Clock()
    candidates = [Candidate(threads=i + 1) for i in range(len(costs))]
    shares: list[float] = []

    def measure(candidate: Candidate) -> float:
        clock.now += costs[candidate.threads - 1]
        return 1.0

    found = search(candidates, measure, seconds, lambda _, share: shares.append(share), clock)
    assert clock.now <= seconds + max(costs)
    assert len(found.rates) + len(found.left_out) == len(candidates)
    assert candidates[0] in found.rates
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_the_best_ways_are_measured_again_and_failures_are_kept() -> None:
    clock = Clock()

    def measure(candidate: Candidate) -> float:
        clock.now += 1
        if candidate.threads == 4:
            raise InvalidInputError("no")
        return 10.0 * candidate.threads * candidate.data_size

    candidates = grid(threads=[1, 2, 3, 4], data_sizes=[1, 5], most_workers=4)
    found = search(candidates, measure, 100, clock=clock)
    assert {c.threads for c in found.failed} == {4}
    assert {c.threads for c, rates in found.rates.items() if len(rates) == 2} == {3}
    way, speedup = ranked(found.measured())[0]
    assert way == (3, 1, 1, 1)
    assert round(speedup, 6) == 3.0


def test_a_way_without_all_its_sizes_does_not_win() -> None:
    rates = {(1, 1): 1.0, (1, 9): 1.0, (2, 1): 1.5, (2, 9): 1.5, (3, 1): 9.0}
    measured = [Measured(candidate=Candidate(threads=t, data_size=s), rates=(r,)) for (t, s), r in rates.items()]
    assert [way[0] for way, _ in ranked(measured)] == [2, 1, 3]


@given(st.integers(1, 64), st.lists(st.integers(1, 4), min_size=1), st.lists(st.integers(1, 4), min_size=1))
def test_the_grid_fits_the_machine(cores: int, tensor: list[int], micro: list[int]) -> None:
    threads = powers_up_to(cores)
    found = grid(
        threads=threads,
        tensor_parallel=tensor,
        pipeline_parallel=[1, 2],
        micro_batches=micro,
        most_workers=2 * cores,
    )
    assert len(found) == len(set(found))
    assert all(c.workers <= 2 * cores for c in found)
    assert all(c.micro_batches == 1 or c.pipeline_parallel > 1 for c in found)
    assert [c.workers for c in found] == sorted(c.workers for c in found)
    assert threads[-1] == 2 * cores


def test_turning_points() -> None:
    assert turning_point({1: 10, 2: 19, 4: 17, 8: 9}) == (2, 4)
    assert turning_point({1: 10, 2: 19, 4: 18.9}) == (2, None)
    assert turning_point({1: 10}) == (1, None)


def test_a_curve_is_the_best_of_each_number_of_workers() -> None:
    measured = [
        Measured(candidate=Candidate(threads=2), rates=(5.0, 7.0)),
        Measured(candidate=Candidate(tensor_parallel=2), rates=(8.0,)),
        Measured(candidate=Candidate(), rates=(4.0,)),
        Measured(candidate=Candidate(data_size=3), rates=(99.0,)),
    ]
    assert curve(measured, 1) == {1: 4.0, 2: 8.0}


def test_the_plain_reduction_runs() -> None:
    for threads in (1, 3):
        assert reduction_rate(Candidate(threads=threads, data_size=ITEMS // 100)) > 0
