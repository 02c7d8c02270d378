"""Which queries are one, and which are not."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.cache.dialogue import QueryRules, Question, normalise, visible_key
from autoglm.errors import InvalidInputError

FOLD = QueryRules(fold_case=True)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("打开微信", "打开微信。"),
        ("打开微信", "  打开微信！！"),
        ("Open settings", "Open   settings."),
        ("Ｏｐｅｎ settings", "Open\u3000settings"),
        ("caf\u00e9", "cafe\u0301"),
        ("ﬁnd it", "find\tit…"),
        ("a\u200bb", "ab"),
        ("去哪儿？", "去哪儿?"),
    ],
)
def test_trivially_equal_queries_meet(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("open a", "open b"), ("输入 你好 世界", "输入 你好世界"), ("type Hi", "type hi"), ("1.5", "15"), ("?", "!")],
)
def test_others_stay_apart(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


def test_case_is_folded_only_on_request() -> None:
    assert normalise("Open STRASSE", FOLD) == normalise("open straße", FOLD)
    assert normalise("Hi!", QueryRules(trim_end=False)) != normalise("Hi", QueryRules(trim_end=False))


@given(st.text(max_size=60), st.booleans(), st.booleans())
def test_once_is_enough(text: str, fold: bool, trim: bool) -> None:
    rules = QueryRules(fold_case=fold, trim_end=trim)
    once = normalise(text, rules)
    assert normalise(once, rules) == once


def test_the_visible_key() -> None:
    question = Question(tenant="t", session="s-1", query="  打开微信。")
    full = hashlib.sha256("打开微信".encode()).digest()
    assert question.digest() == full
    assert visible_key("s-1", full) == f"conv:s-1:{full[:8].hex()}"


def test_screen_and_context_are_part_of_the_identity() -> None:
    def digest(**fields: bytes) -> bytes:
        return Question(tenant="t", session="s", query="q", **fields).digest()

    found = {
        digest(),
        digest(screen=b"a"),
        digest(screen=b"b"),
        digest(context=b"a"),
        digest(screen=b"a", context=b"b"),
    }
    assert len(found) == 5
    assert digest(screen=b"ab") != digest(screen=b"a", context=b"b")


@pytest.mark.parametrize("session", ["", "a:b", "a b", "*", "x" * 129, "a\n", "é"])
def test_a_session_is_a_name(session: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Question(tenant="t", session=session, query="q")
    assert caught.value.field == "session"
