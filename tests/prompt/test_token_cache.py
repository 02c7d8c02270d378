"""Pieces joined must be the whole: any text, any special tokens, remembered or not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.errors import InvalidInputError
from autoglm.prompt.token_cache import TokenCache
from autoglm.prompt.tokenizer import Tokenizer

SYSTEM = "You are a phone agent. 今天的日期是 2026年。\n\n" * 20


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Path) -> Tokenizer:
    return Tokenizer.from_directory(checkpoint)


def test_any_text_gives_the_same_ids(tokenizer: Tokenizer) -> None:
    cache = TokenCache(tokenizer)
    specials = sorted(tokenizer.cutting_tokens() or {})
    assert specials
    words = st.one_of(st.sampled_from(specials), st.text(max_size=12), st.sampled_from([" ", "\n", "  \n", "<|", "|>"]))

    @settings(max_examples=300, deadline=None)
    @given(st.lists(words, max_size=12))
    def check(parts: list[str]) -> None:
        text = "".join(parts).encode("utf-8", "ignore").decode()
        assert cache.encode(text) == tokenizer.encode(text)
        assert cache.encode(text) == tokenizer.encode(text)

    check()


def test_the_system_prompt_is_tokenised_once(tokenizer: Tokenizer) -> None:
    cache = TokenCache(tokenizer)
    for question in ("one", "two", "three"):
        text = f"[gMASK]<sop><|system|>\n{SYSTEM}<|user|>\n{question}<|assistant|>\n"
        assert cache.encode(text) == tokenizer.encode(text)
    stats = cache.stats()
    assert (stats.hits, stats.misses) == (4, 5)  # twice the system prompt, twice the last newline
    assert stats.loads == 5
    assert 0 < stats.bytes <= stats.capacity_bytes


def test_off_switch_and_limits(tokenizer: Tokenizer) -> None:
    off = TokenCache(tokenizer, 0)
    assert off.encode(f"<|user|>{SYSTEM}") == tokenizer.encode(f"<|user|>{SYSTEM}")
    assert off.stats().misses == 0
    small = TokenCache(tokenizer, 500)
    for index in range(50):
        small.encode(f"<|user|>{index}")
    assert 0 < small.stats().bytes <= 500
    with pytest.raises(InvalidInputError):
        TokenCache(tokenizer, -1)
