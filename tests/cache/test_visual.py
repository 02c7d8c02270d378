"""The visual cache against a plain model, and identities."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.cache import ImageOrdinals, VisualCache, sequence_identities, sighted_identity


@dataclass(frozen=True)
class Blob:
    """Something of a size."""

    name: int
    nbytes: int


def key(name: int) -> tuple[str, bytes]:
    return "", bytes([name])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    capacity=st.integers(0, 12),
    actions=st.lists(
        st.tuples(st.sampled_from(["use", "use", "unpin", "unpin", "drop"]), st.integers(0, 5)), max_size=60
    ),
)
def test_against_a_plain_lru(capacity: int, actions: list[tuple[str, int]]) -> None:
    cache: VisualCache[Blob] = VisualCache(capacity)
    order: list[int] = []
    pins = dict.fromkeys(range(6), 0)
    dropped: set[int] = set()
    early = 0

    def shrink() -> None:
        nonlocal early
        while sum(1 + n for n in order) > capacity:
            victim = next((n for n in order if not pins[n]), None)
            if victim is None:
                return
            order.remove(victim)
            early += victim in dropped
            dropped.discard(victim)

    for action, name in actions:
        if action == "use":
            found = cache.pin(key(name))
            assert (found is not None) == (name in order)
            if found is None:
                cache.put_pinned(key(name), Blob(name, 1 + name))
            else:
                assert found.name == name
                order.remove(name)
            order.append(name)
            dropped.discard(name)
            pins[name] += 1
            shrink()
        elif action == "drop":
            cache.drop(key(name))
            if name in order and not pins[name]:
                order.remove(name)
                order.insert(0, name)
                dropped.add(name)
        elif pins[name]:
            cache.unpin(key(name))
            pins[name] -= 1
            shrink()
        cache.check_integrity(sum(pins.values()))
        assert {n for n in range(6) if key(n) in cache} == set(order)
        assert (cache.dropped_entries, cache.dropped_evictions) == (len(dropped), early)


def test_age_of_hits_and_evictions(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    cache: VisualCache[Blob] = VisualCache(3)
    cache.put_pinned(key(1), Blob(1, 2))
    cache.unpin(key(1))
    now[0] = 14.0
    assert cache.pin(key(1)) is not None
    cache.unpin(key(1))
    now[0] = 17.0
    cache.put_pinned(key(2), Blob(2, 2))
    assert (cache.counters.hit_age_seconds, cache.counters.evicted_age_seconds) == (4.0, 7.0)


def test_zero_capacity_keeps_nothing_unpinned() -> None:
    cache: VisualCache[Blob] = VisualCache(0)
    cache.put_pinned(key(1), Blob(1, 5))
    assert cache.pin(key(1)) is not None
    cache.unpin(key(1))
    cache.unpin(key(1))
    assert len(cache) == cache.bytes == 0


@settings(deadline=None, derandomize=True)
@given(digests=st.lists(st.binary(min_size=1, max_size=2), max_size=60))
def test_ordinals_are_never_given_twice(digests: list[bytes]) -> None:
    ordinals = ImageOrdinals(capacity=3)
    owner: dict[int, bytes] = {}
    for digest in digests:
        assert owner.setdefault(ordinals.of(digest), digest) == digest


def test_identities_tell_everything_apart() -> None:
    ordinals = ImageOrdinals()
    ids = [5, 7, 7, 7, 6]
    a = sequence_identities(ids, [(1, 3, b"a")], ordinals)
    b = sequence_identities(ids, [(1, 3, b"b")], ordinals)
    assert a[0] == b[0] == 5
    assert a[4] == b[4] == 6
    assert len({*a[1:4], *b[1:4]}) == 6
    assert all(identity < 0 for identity in a[1:4])
    sights = {sighted_identity(7, s) for s in range(4)}
    assert len(sights) == 4
    assert sighted_identity(7, 0) == 7


def test_what_was_put_ahead_waits_unpinned_and_is_counted_when_read_or_lost() -> None:
    cache: VisualCache[Blob] = VisualCache(100)
    told: list[tuple[str, bytes]] = []
    cache.on_encoded = lambda key, _: told.append(key)
    for name in (b"a", b"b"):
        cache.put_ahead(("", name), Blob(1, 40))
    cache.put_ahead(("", b"a"), Blob(1, 41))  # it is there
    cache.check_integrity(0)
    assert told == [("", b"a"), ("", b"b")]
    assert cache.pin(("", b"a")) == Blob(1, 40)
    assert (cache.ahead_used, cache.counters.hits, cache.counters.misses) == (1, 0, 1)  # as if computed now
    assert cache.room == 60
    assert cache.pin(("", b"a")) is not None
    assert (cache.ahead_used, cache.counters.hits) == (1, 1)
    cache.put_ahead(("", b"c"), Blob(1, 60))  # pushes b out, unread
    assert (cache.ahead_wasted, cache.bytes) == (1, 100)
