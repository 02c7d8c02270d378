"""What a caller sees: limits, time, statistics, loading, snapshots, the choice of the implementation."""

from __future__ import annotations

import dataclasses
import math
import time
from array import array

import pytest

from autoglm import env
from autoglm.cache.local import Cause, Implementation, LocalCache, LocalConfig, Policy, payload_bytes
from autoglm.errors import InvalidInputError
from tests.cache.local.helpers import Clock, Notes, make


def test_defaults() -> None:
    config = LocalConfig()
    assert (config.max_entries, config.max_weight, config.ttl, config.policy) == (1000, None, 600.0, Policy.ADAPTIVE)
    assert config.statistics
    assert dataclasses.is_dataclass(config)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.ttl = None  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value"), [("max_entries", -1), ("max_entries", 1 << 30), ("max_weight", -1), ("ttl", 0.0), ("ttl", 1e9)]
)
def test_limits_out_of_range(field: str, value: float) -> None:
    with pytest.raises(InvalidInputError) as caught:
        LocalConfig(**{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field
    assert caught.value.value == value


def test_mapping_face(implementation: Implementation) -> None:
    cache = make(implementation)
    cache["a"] = None
    assert "a" in cache
    assert cache["a"] is None
    assert cache.get("a", 1) is None
    assert cache.get("b", 1) == 1
    with pytest.raises(KeyError, match="b"):
        cache["b"]
    del cache["a"]
    with pytest.raises(KeyError, match="a"):
        del cache["a"]
    assert isinstance(cache, LocalCache)


def test_least_recently_used_leaves(implementation: Implementation) -> None:
    notes = Notes()
    cache = make(implementation, max_entries=3, policy=Policy.LRU, listener=notes)
    for key in "abc":
        cache[key] = key.upper()
    cache.get("a")
    cache.peek("b")
    cache["d"] = "D"
    assert notes.take() == [("b", "B", Cause.SIZE)]
    assert cache.keys() == list(cache) == ["c", "a", "d"]


def test_least_frequently_used_leaves_and_the_newcomer_stays(implementation: Implementation) -> None:
    notes = Notes()
    cache = make(implementation, max_entries=3, policy=Policy.LFU, listener=notes)
    for key in "abc":
        cache[key] = key
        cache.get(key)
    cache.get("a")
    cache["d"] = "d"
    assert notes.take() == [("b", "b", Cause.SIZE)]
    cache["e"] = "e"
    assert notes.take() == [("d", "d", Cause.SIZE)]
    assert cache.keys() == ["e", "c", "a"]


def test_expiry_of_the_cache_and_of_entries(implementation: Implementation) -> None:
    clock, notes = Clock(), Notes()
    cache = make(implementation, ttl=10.0, clock=clock, listener=notes)
    cache["usual"] = 1
    cache.put("short", 2, 0.25)
    cache.put("long", 3, ttl=100.0)
    cache.put("kept", 4, math.inf)
    clock.seconds += 0.25
    assert cache.get("short") is None
    assert notes.take() == [("short", 2, Cause.EXPIRED)]
    clock.seconds += 9.75
    assert "usual" not in cache
    assert cache.items() == [("long", 3), ("kept", 4)]
    assert len(cache) == 3
    assert not cache.remove("usual")
    clock.seconds += 1e6
    assert cache.purge() == 1
    assert cache.keys() == ["kept"]
    assert [cause for _, _, cause in notes] == [Cause.EXPIRED, Cause.EXPIRED]


def test_expired_entries_leave_without_being_asked_for(implementation: Implementation) -> None:
    """Even where the policy would keep them: one slot is looked at per insertion."""
    clock, notes = Clock(), Notes()
    cache = make(implementation, max_entries=100, ttl=1.0, policy=Policy.LFU, clock=clock, listener=notes)
    for key in range(50):
        cache[key] = key
        for _ in range(9):
            cache.get(key)
    clock.seconds += 2.0
    for key in range(1000, 1050):
        cache[key] = key
    assert len(notes) >= 40
    assert {cause for _, _, cause in notes} == {Cause.EXPIRED}


def test_the_systems_clock(implementation: Implementation) -> None:
    cache = make(implementation)
    cache.put("a", 1, 0.5)
    assert cache.get("a") == 1
    end = time.monotonic() + 60
    while "a" in cache and time.monotonic() < end:
        time.sleep(0.01)
    assert "a" not in cache


def test_a_clock_that_goes_back(implementation: Implementation) -> None:
    clock = Clock()
    cache = make(implementation, ttl=5.0, clock=clock)
    clock.seconds += 10
    cache["a"] = 1
    clock.seconds -= 1e9
    assert cache["a"] == 1
    clock.seconds = math.inf
    with pytest.raises(ValueError, match="finite"):
        cache.get("a")


def test_weight_limit(implementation: Implementation, policy: Policy) -> None:
    notes = Notes()
    cache = make(implementation, max_weight=100, policy=policy, listener=notes, weigher=lambda _k, v: len(v))
    for key in range(10):
        assert cache.put(key, b"x" * 30)
        assert cache.stats().weight <= 100
    assert {cause for _, _, cause in notes.take()} == {Cause.WEIGHT}
    assert not cache.put("heavy", b"x" * 101)
    assert notes.take() == [("heavy", b"x" * 101, Cause.WEIGHT)]
    assert cache.put("all", b"x" * 100)
    assert cache.keys() == ["all"]
    notes.clear()
    assert not cache.put("all", b"x" * 101)
    assert [cause for _, _, cause in notes] == [Cause.REPLACED, Cause.WEIGHT]
    assert len(cache) == 0


def test_payload_bytes() -> None:
    assert payload_bytes("key", array("d", [0.0] * 100)) > 800
    assert payload_bytes("key", memoryview(bytes(1000))) == 1000
    nested = {"a": [b"x" * 1000, (b"y" * 500,)]}
    assert payload_bytes("key", nested) > 1500
    ring: list[object] = []
    ring.append(ring)
    assert payload_bytes("key", ring) < 1000
    cache = make(Implementation.AUTO, max_weight=5000)
    for key in range(10):
        cache[key] = bytes(1000)
    assert len(cache) == 4


def test_switched_off(implementation: Implementation, policy: Policy) -> None:
    notes = Notes()
    cache = make(implementation, max_entries=0, policy=policy, listener=notes)
    assert not cache.put("a", 1)
    assert cache.get("a") is None
    assert notes == [("a", 1, Cause.SIZE)]


def test_statistics(implementation: Implementation) -> None:
    clock = Clock()
    cache = make(implementation, max_entries=2, ttl=8.0, policy=Policy.LRU, clock=clock, weigher=lambda _k, v: v)
    cache["a"] = 5
    clock.seconds += 2
    cache.get("a")
    cache.get("b")
    cache["a"] = 6
    cache["b"] = 7
    clock.seconds += 4
    cache["c"] = 8
    clock.seconds += 4
    cache.get("b")
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.inserts, stats.entries, stats.weight) == (1, 2, 4, 1, 8)
    assert stats.removed == {
        Cause.EXPLICIT: 0,
        Cause.REPLACED: 1,
        Cause.SIZE: 1,
        Cause.WEIGHT: 0,
        Cause.EXPIRED: 1,
    }
    assert stats.evictions == 2
    assert stats.hit_rate == pytest.approx(1 / 3)
    assert stats.mean_hit_age == 2.0
    assert stats.mean_evicted_age == (4 + 8) / 2
    assert (stats.max_entries, stats.max_weight) == (2, None)


def test_statistics_switched_off(implementation: Implementation) -> None:
    cache = make(implementation, max_entries=2, statistics=False)
    for key in range(5):
        cache[key] = key
        cache.get(key)
        cache.get(-1)
    cache.get_or_load("x", str)
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.inserts, stats.loads, stats.evictions) == (0, 0, 0, 0, 0)
    assert stats.hit_rate == stats.mean_hit_age == stats.mean_evicted_age == stats.mean_load_seconds == 0
    assert stats.entries == 2


def test_loading(implementation: Implementation) -> None:
    cache = make(implementation)
    calls = []

    def loader(key: int) -> str | None:
        calls.append(key)
        if key < 0:
            raise LookupError("no such key")
        return str(key) if key else None

    assert cache.get_or_load(1, loader) == "1"
    assert cache.get_or_load(1, loader) == "1"
    assert cache.get_or_load(0, loader) is None
    assert cache.get_or_load(0, loader) is None
    for _ in range(2):
        with pytest.raises(LookupError):
            cache.get_or_load(-1, loader)
    assert calls == [1, 0, -1, -1]
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.loads, stats.load_failures) == (2, 4, 4, 2)
    assert stats.load_seconds > 0
    assert stats.mean_load_seconds == stats.load_seconds / 4


def test_iteration_is_over_a_snapshot(implementation: Implementation, policy: Policy) -> None:
    cache = make(implementation, max_entries=20, policy=policy)
    for key in range(20):
        cache[key] = key
    seen = []
    for key in cache:
        seen.append(key)
        cache.remove(key)
        cache[key + 100] = key
    assert sorted(seen) == list(range(20))


def test_resize(implementation: Implementation, policy: Policy) -> None:
    notes = Notes()
    cache = make(implementation, max_entries=10, policy=policy, listener=notes)
    for key in range(10):
        cache[key] = key
    order = cache.keys()
    cache.resize(4)
    assert [key for key, _, _ in notes.take()] == order[:6]
    assert cache.keys() == order[6:]
    cache.resize(100)
    assert cache.keys() == order[6:]
    for key in range(200, 296):
        cache[key] = key
    assert len(cache) == 100
    assert notes == []
    with pytest.raises(InvalidInputError):
        cache.resize(-1)
    assert cache.stats().max_entries == 100


def test_implementation_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, name in (("python", "PythonCache"), ("slab", "SlabCache"), ("auto", "SlabCache"), ("", "SlabCache")):
        monkeypatch.setenv(env.CACHE, value)
        assert type(LocalCache()).__name__ == name
        assert type(make(Implementation.PYTHON)).__name__ == "PythonCache"
    monkeypatch.setenv(env.CACHE, "rust")
    with pytest.raises(InvalidInputError, match=env.CACHE):
        LocalCache()
