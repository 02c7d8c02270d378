"""Shields and session hints: what somebody waits for goes last, and nothing is locked for good."""

from __future__ import annotations

from autoglm.cache import ImageOrdinals, KVCache, Node, SessionHints
from autoglm.cache.host import ChainNames, HostTier
from autoglm.cache.host.transfer import NoTransfer

SIZE = 4


def run(cache: KVCache, identities: list[int]) -> Node | None:
    """Compute a whole prompt; where its chain ends."""
    table, _, _ = cache.open("", identities, len(identities))
    assert cache.grow(table, len(identities))
    leaf = cache.release(table, identities, len(identities))
    cache.flush()
    cache.check_integrity(0)
    return leaf


def known(cache: KVCache, identities: list[int]) -> int:
    """Tokens that would be hit."""
    table, cached, _ = cache.open("", identities, len(identities))
    cache.release(table, identities, cached)
    return cached


def prompt(number: int, blocks: int = 2) -> list[int]:
    return [number * 1000 + i for i in range(blocks * SIZE)]


def test_a_waiting_prompts_blocks_outlive_younger_ones() -> None:
    cache = KVCache(6, SIZE)
    for number in range(3):
        run(cache, prompt(number))
    shield = cache.shields.of_prompt("", prompt(0), 2 * SIZE)
    run(cache, prompt(3))
    assert (known(cache, prompt(0)), known(cache, prompt(1))) == (8, 0)
    cache.shields.drop(shield)
    for number in range(4, 7):
        run(cache, prompt(number))
    assert known(cache, prompt(0)) == 0


def test_a_shield_is_no_reservation() -> None:
    cache = KVCache(6, SIZE)
    run(cache, prompt(0))
    run(cache, prompt(1))
    first, last = (cache.shields.of_prompt("", prompt(n), 2 * SIZE) for n in (0, 1))
    run(cache, prompt(2, blocks=3))
    # The last to be needed gave way, its end first.
    assert (known(cache, prompt(0)), known(cache, prompt(1))) == (8, 4)
    assert cache.shielded_evictions == 1
    cache.shields.renew(last)
    cache.shields.drop(first)
    cache.shields.drop(last)
    cache.check_integrity(0)


def test_a_shield_grows_with_what_becomes_known() -> None:
    cache = KVCache(4, SIZE)
    shield = cache.shields.of_prompt("", prompt(0), 2 * SIZE)
    run(cache, prompt(0))
    cache.shields.renew(shield)
    run(cache, prompt(1))
    run(cache, prompt(2))
    assert known(cache, prompt(0)) == 8


def test_a_shield_holds_in_host_memory() -> None:
    host = HostTier(ChainNames(b"", ImageOrdinals()), NoTransfer(), pages=4, page_bytes=64)
    cache = KVCache(2, SIZE, host=host)
    run(cache, prompt(0))
    run(cache, prompt(1))
    shield = cache.shields.of_prompt("", prompt(0), 2 * SIZE)
    for number in range(2, 6):
        run(cache, prompt(number))
    assert known(cache, prompt(0)) == 8
    assert host.store.evictions["shielded"] == 0
    cache.shields.drop(shield)
    for number in range(6, 12):
        run(cache, prompt(number))
    assert known(cache, prompt(0)) == 0
    cache.check_integrity(0)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_session_is_kept_for_its_time() -> None:
    clock, cache = Clock(), KVCache(8, SIZE)
    hints = SessionHints(cache.shields, 4, clock)
    hints.note(("", "s"), run(cache, prompt(0)), seconds=10)
    for number in range(1, 6):
        run(cache, prompt(number))
    assert known(cache, prompt(0)) == 8
    clock.now = 9
    assert hints.keep(("", "s"), 10)
    clock.now = 18
    hints.expire()
    for number in range(6, 12):
        run(cache, prompt(number))
    assert known(cache, prompt(0)) == 8
    clock.now = 19
    hints.expire()
    for number in range(12, 18):
        run(cache, prompt(number))
    assert known(cache, prompt(0)) == 0
    assert hints.kept_blocks == 0


def test_letting_go_and_unknown_sessions() -> None:
    cache = KVCache(4, SIZE)
    hints = SessionHints(cache.shields, 4, Clock())
    assert not hints.keep(("", "unknown"), 5)
    hints.note(("", "s"), run(cache, prompt(0)), seconds=10)
    assert not hints.keep(("other tenant", "s"), 0)
    assert hints.keep(("", "s"), 0)
    run(cache, prompt(1))
    run(cache, prompt(2))
    assert known(cache, prompt(0)) == 0


def test_hints_are_bounded() -> None:
    cache = KVCache(64, SIZE)
    hints = SessionHints(cache.shields, 4, Clock())
    for number in range(8):
        hints.note(("", str(number)), run(cache, prompt(number)), seconds=100)
        assert hints.kept_blocks <= 4
    assert not hints.keep(("", "0"), 1)  # forgotten
    assert hints.keep(("", "7"), 1)
    assert len(hints) <= 4
    hints.note(("", "long"), run(cache, prompt(9, blocks=6)), seconds=100)
    assert hints.kept_blocks <= 4


def test_another_turn_moves_the_hint_along() -> None:
    cache = KVCache(6, SIZE)
    clock = Clock()
    hints = SessionHints(cache.shields, 6, clock)
    hints.note(("", "s"), run(cache, prompt(0)), seconds=10)
    hints.note(("", "s"), run(cache, prompt(0, blocks=3)))
    for number in range(1, 4):
        run(cache, prompt(number, blocks=3))
    assert known(cache, prompt(0, blocks=3)) == 12
    hints.forget(("", "s"))
    for number in range(4, 6):
        run(cache, prompt(number, blocks=3))
    assert known(cache, prompt(0, blocks=3)) == 0
