"""The static rule: a hit never serves another image's state."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoglm.messages import ChatMessage
from tests.engine.harness import COLD, Driver, engine_of, screen, user

A, B = screen(1), screen(2)
SYSTEM = ChatMessage("system", "You operate a phone. " * 6)

PAIRS = {
    "same placeholder ids, different pixels": ([user(A, "open")], [user(B, "open")]),
    "same pixels, another offset": ([user(A, "open")], [user("x", A, "open")]),
    "same pixels, one token earlier": ([user("x y", A, "open")], [user("x", A, "open")]),
    "two images swapped": ([user(A, B, "open")], [user(B, A, "open")]),
    "second image differs": ([user(A, A, "open")], [user(A, B, "open")]),
    "image behind equal text": ([SYSTEM, user("look", A, "open")], [SYSTEM, user("look", B, "open")]),
    "image dropped": ([SYSTEM, user(A, "open")], [SYSTEM, user("open")]),
    "other size": ([user(screen(1, 112, 168), "open")], [user(screen(1, 168, 112), "open")]),
}


def check_warm_equals_cold(folder: Path, name: str) -> None:
    """Both dialogues of a pair, twice, with every cache on and with every cache off. For any layout."""
    first, second = PAIRS[name]
    warm, cold = Driver(engine_of(folder)), Driver(engine_of(folder, **COLD))
    for messages in (first, second, first, second):
        assert warm.ask(messages).tokens == cold.ask(messages).tokens


@pytest.mark.parametrize("name", PAIRS)
def test_warm_equals_cold(checkpoint: Path, name: str) -> None:
    check_warm_equals_cold(checkpoint, name)


def test_the_pairs_can_tell(checkpoint: Path) -> None:
    """Different pixels do give different answers here, else the test above could not fail."""
    cold = Driver(engine_of(checkpoint, **COLD))
    assert cold.ask([user(A, "open")]).tokens != cold.ask([user(B, "open")]).tokens


def test_different_pixels_share_only_what_is_before_them(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint))
    driver.ask([SYSTEM, user(A, "open")])
    before = driver.engine.prompts.build([SYSTEM, user(B, "open")]).images[0].start
    assert driver.ask([SYSTEM, user(B, "open")]).cached == before


def test_salts_share_nothing(checkpoint: Path) -> None:
    driver = Driver(engine_of(checkpoint))
    first = driver.ask([user(A, "open")], cache_salt="one")
    other = driver.ask([user(A, "open")], cache_salt="two")
    again = driver.ask([user(A, "open")], cache_salt="one")
    assert first.tokens == other.tokens == again.tokens
    assert other.cached == 0
    assert again.cached > 0
    assert driver.engine.visual.counters.misses == 2
