"""The mask rule: turns, their images, and the open end that generated tokens fall into."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.errors import InvalidInputError
from autoglm.model.autoglm_phone.visibility import OPEN_END, TurnSpan, spans_of_rows, visible_spans

SYSTEM, USER, ASSISTANT, IMAGE = 90, 91, 92, 99
OPENING = (SYSTEM, USER)


def test_reply_shares_its_users_turn() -> None:
    ids = [1, 2, SYSTEM, 5, USER, 6, ASSISTANT, 7, USER, IMAGE, 8, ASSISTANT]
    assert visible_spans(ids, [9], OPENING) == [
        TurnSpan(0, 2, ()),
        TurnSpan(2, 4, ()),
        TurnSpan(4, 8, ()),
        TurnSpan(8, OPEN_END, (0,)),
    ]


def test_several_images_in_one_turn_and_none_in_the_next() -> None:
    ids = [USER, IMAGE, IMAGE, 4, ASSISTANT, 5, USER, 6, USER, IMAGE]
    assert visible_spans(ids, [1, 2, 9], OPENING) == [
        TurnSpan(0, 6, (0, 1)),
        TurnSpan(6, 8, ()),
        TurnSpan(8, OPEN_END, (2,)),
    ]


def test_text_only_and_empty() -> None:
    assert visible_spans([], [], OPENING) == [TurnSpan(0, OPEN_END, ())]
    assert visible_spans([1, 2], [], OPENING) == [TurnSpan(0, OPEN_END, ())]
    assert visible_spans([IMAGE, 2], [0], ()) == [TurnSpan(0, OPEN_END, (0,))]


@pytest.mark.parametrize("starts", [[3], [-1], [1, 1], [2, 0]])
def test_bad_positions_are_named(starts: list[int]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        visible_spans([USER, IMAGE, IMAGE], starts, OPENING)
    assert caught.value.field == "image_starts"


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.lists(st.sampled_from([1, SYSTEM, USER, ASSISTANT, IMAGE]), max_size=40), st.data())
def test_spans_partition_and_agree_with_the_definition(ids: list[int], data: st.DataObject) -> None:
    starts = [at for at, token in enumerate(ids) if token == IMAGE]
    spans = visible_spans(ids, starts, OPENING)
    assert spans[0].start == 0
    assert spans[-1].end == OPEN_END
    assert all(a.end == b.start for a, b in itertools.pairwise(spans))

    def turn_of(position: int) -> int:
        return sum(token in OPENING for token in ids[: position + 1])

    def visible_by_spans(position: int) -> tuple[int, ...]:
        return next(s.images for s in spans if s.start <= position < s.end)

    for position in range(len(ids)):
        visible = tuple(i for i, at in enumerate(starts) if turn_of(at) == turn_of(position))
        assert visible_by_spans(position) == visible
    begin = data.draw(st.integers(0, len(ids)))
    end = data.draw(st.integers(begin, len(ids) + 3))
    clipped = {p: s.images for s in spans_of_rows(spans, begin, end) for p in range(s.start, s.end)}
    assert clipped == {p: visible_by_spans(p) for p in range(begin, end) if visible_by_spans(p)}


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([1, USER, ASSISTANT, IMAGE]), min_size=1, max_size=20))
def test_generated_text_never_changes_earlier_visibility(ids: list[int]) -> None:
    starts = [at for at, token in enumerate(ids) if token == IMAGE]
    before = visible_spans(ids, starts, OPENING)
    assert visible_spans([*ids, 1, ASSISTANT], starts, OPENING) == before
