from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.errors import InvalidInputError
from autoglm.prompt import StopChecker

SETTINGS = settings(derandomize=True, deadline=None, max_examples=400)
STOPS = st.lists(st.text("abc", min_size=1, max_size=5), max_size=4)


def naive(text: str, stops: list[str]) -> tuple[str, str | None]:
    for end in range(1, len(text) + 1):
        complete = [s for s in stops if text[:end].endswith(s)]
        if complete:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, None


@SETTINGS
@given(STOPS, st.lists(st.text("abc", max_size=6), max_size=12))
def test_any_cutting_gives_the_naive_answer(stops: list[str], pieces: list[str]) -> None:
    checker = StopChecker(stops)
    emitted, matched, seen = "", None, ""
    for piece in pieces:
        emit, match = checker.push(piece)
        emitted, matched, seen = emitted + emit, matched or match, seen + piece
        if matched is None:
            held = seen[len(emitted) :]
            assert seen.startswith(emitted)
            # nothing is held without a reason, and nothing that may become a stop string is let out
            assert not held or any(s.startswith(held) and s != held for s in stops)
            longer = [seen[i:] for i in range(len(emitted))]
            assert not any(s.startswith(tail) for s in stops for tail in longer)
    emitted += checker.flush()
    assert (emitted, matched) == naive("".join(pieces), stops)


def test_a_stop_across_tokens() -> None:
    checker = StopChecker(["</answer>"])
    assert checker.push("do()</") == ("do()", None)
    assert checker.push("ans") == ("", None)
    assert checker.push("wer> more") == ("", "</answer>")
    assert checker.push("x") == ("", None)
    assert checker.flush() == ""


def test_no_stop_strings_hold_nothing() -> None:
    assert StopChecker([]).push("abc") == ("abc", None)


def test_empty_stop_string_is_refused() -> None:
    with pytest.raises(InvalidInputError) as error:
        StopChecker(["a", ""])
    assert error.value.field == "stop"
