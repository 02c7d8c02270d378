"""The mask rule: turns, their images, and the open end that generated tokens fall into."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.errors import InvalidInputError
from autoglm.model.autoglm_phone.visibility import visible_spans

SYSTEM, USER, ASSISTANT, IMAGE = 90, 91, 92, 99
OPENING = (SYSTEM, USER)


def test_reply_shares_its_users_turn() -> None:
    ids = [1, 2, SYSTEM, 5, USER, IMAGE, ASSISTANT, 7, USER, 8, ASSISTANT]
    assert visible_spans(ids, [5], OPENING) == [(4, 8, (0,))]


def test_the_last_turn_is_open() -> None:
    ids = [1, USER, 6, ASSISTANT, 7, USER, IMAGE, 8, ASSISTANT]
    assert visible_spans(ids, [6], OPENING) == [(5, None, (0,))]


def test_several_images_in_one_turn_and_none_in_the_next() -> None:
    ids = [USER, IMAGE, IMAGE, 4, ASSISTANT, 5, USER, 6, USER, IMAGE]
    assert visible_spans(ids, [1, 2, 9], OPENING) == [(0, 6, (0, 1)), (8, None, (2,))]


def test_text_only_empty_and_without_turns() -> None:
    assert visible_spans([], [], OPENING) == []
    assert visible_spans([1, USER, 2], [], OPENING) == []
    assert visible_spans([IMAGE, 2], [0], ()) == [(0, None, (0,))]


@pytest.mark.parametrize("starts", [[3], [-1], [1, 1], [2, 0]])
def test_bad_positions_are_named(starts: list[int]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        visible_spans([USER, IMAGE, IMAGE], starts, OPENING)
    assert caught.value.field == "image_starts"


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.lists(st.sampled_from([1, SYSTEM, USER, ASSISTANT, IMAGE]), max_size=40))
def test_spans_agree_with_the_definition(ids: list[int]) -> None:
    starts = [at for at, token in enumerate(ids) if token == IMAGE]
    spans = visible_spans(ids, starts, OPENING)
    length = len(ids)

    def turn_of(position: int) -> int:
        return sum(token in OPENING for token in ids[: position + 1])

    seen: dict[int, tuple[int, ...]] = {}
    for start, end, images in spans:
        for position in range(start, length if end is None else end):
            assert position not in seen
            seen[position] = images
    for position in range(length):
        visible = tuple(i for i, at in enumerate(starts) if turn_of(at) == turn_of(position))
        assert seen.get(position, ()) == visible


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([1, USER, ASSISTANT, IMAGE]), min_size=1, max_size=20))
def test_generated_text_never_changes_earlier_visibility(ids: list[int]) -> None:
    starts = [at for at, token in enumerate(ids) if token == IMAGE]
    assert visible_spans([*ids, 1, ASSISTANT], starts, OPENING) == visible_spans(ids, starts, OPENING)
