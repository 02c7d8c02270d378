"""Micro-batches: every token once and in order, decode rows even, predicted times equal to within one token."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.parallel.pipeline.microbatch import Piece, RowCost, Work, parts_for, split

WORKS = st.lists(st.builds(Work, st.integers(0, 4000), st.one_of(st.just(1), st.integers(2, 900))), max_size=12)
COSTS = st.builds(RowCost, st.floats(0.5, 2.0), st.floats(0.0, 0.01))


def seconds(batch: list[Piece], cost: RowCost) -> float:
    return sum(cost.time(piece.start, piece.count) for piece in batch)


@settings(max_examples=40, deadline=None)
@given(WORKS, st.integers(1, 6), COSTS)
def test_every_token_once_and_in_order(works: list[Work], parts: int, cost: RowCost) -> None:
    batches = split(works, parts, cost)
    assert len(batches) <= parts
    assert all(batches)
    reached = [work.start for work in works]
    for batch in batches:
        for piece in batch:
            assert piece.start == reached[piece.index]
            assert piece.count > 0
            reached[piece.index] += piece.count
    assert reached == [work.start + work.count for work in works]


@settings(max_examples=40, deadline=None)
@given(WORKS, st.integers(1, 6), COSTS)
def test_decode_rows_are_even(works: list[Work], parts: int, cost: RowCost) -> None:
    whole = {index for index, work in enumerate(works) if work.count == 1}
    counts = [sum(piece.index in whole for piece in batch) for batch in split(works, parts, cost)]
    counts += [0] * (parts - len(counts))
    assert max(counts) - min(counts) <= 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.builds(Work, st.integers(0, 4000), st.integers(2, 900)), min_size=1), st.integers(1, 6), COSTS)
def test_prefill_times_are_equal_to_a_token(works: list[Work], parts: int, cost: RowCost) -> None:
    tokens = sum(work.count for work in works)
    batches = split(works, parts, cost)
    if tokens < 8 * parts:
        return
    assert len(batches) == parts
    token = cost.time(max(work.start + work.count for work in works), 1)
    ideal = sum(cost.time(work.start, work.count) for work in works) / parts
    # Each cut is off by half a token at most, and what one was off is made good in the next.
    assert all(abs(seconds(batch, cost) - ideal) <= 1.01 * token for batch in batches)


@settings(max_examples=40, deadline=None)
@given(WORKS, st.integers(1, 6), COSTS)
def test_mixed_batches_are_level(works: list[Work], parts: int, cost: RowCost) -> None:
    batches = split(works, parts, cost)
    decode = [seconds([p for p in b if works[p.index].count == 1], cost) for b in batches]
    prefilled = [any(works[p.index].count > 1 for p in b) for b in batches]
    token = cost.time(max((work.start + work.count for work in works), default=0), 1)
    levels = [seconds(batch, cost) for batch in batches]
    for level, has in zip(levels, prefilled, strict=True):
        if has and len(batches) == parts:
            # Prefill went only where it made nobody longer than the others, but for a rounded token.
            assert level <= max(*decode, sum(levels) / parts) + 1.01 * token


def test_later_pieces_of_a_long_prompt_are_shorter() -> None:
    counts = [batch[0].count for batch in split([Work(0, 1000)], 4, RowCost(1.0, 0.01))]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1] + 50
    assert [b[0].count for b in split([Work(0, 1000)], 4, RowCost(1.0))] == [250] * 4


@given(st.integers(0, 5000), st.floats(0, 5000), COSTS)
def test_the_count_is_the_nearest(start: int, time: float, cost: RowCost) -> None:
    count = cost.count_for(start, time)
    off = abs(cost.time(start, count) - time)
    assert off <= abs(cost.time(start, count + 1) - time) + 1e-6 * time
    # Time is convex in the count, so the nearest count and the nearest time differ by a part of one pair at most.
    assert count == 0 or off <= abs(cost.time(start, count - 1) - time) + cost.pair + 1e-6 * time


def test_how_many_parts() -> None:
    decode, prompt = Work(100, 1), Work(0, 400)
    assert parts_for([decode] * 8, 4, 8, 64) == 2
    assert parts_for([decode] * 4, 4, 8, 64) == 1  # the other half is in flight
    assert parts_for([decode] * 5, 4, 8, 64) == 2
    assert parts_for([prompt], 1, 8, 64) == 6
    assert parts_for([prompt], 1, 4, 64) == 4
    assert parts_for([prompt, decode], 1, 4, 64) == 4
    assert parts_for([Work(0, 20)], 1, 4, 64) == 1
    assert parts_for([], 1, 4, 64) == 1
