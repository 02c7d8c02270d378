"""The cache without a shared level: the same interface, the same promises."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from autoglm.cache.tiered import BytesCodec, RecursiveLoadError, TieredCache, TieredConfig
from autoglm.errors import InvalidInputError
from tests.cache.conftest import cache_on
from tests.cache.waiting import wait_until


class Clock:
    """Time that moves when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Source:
    """What is loaded from: counts, and waits where told to."""

    def __init__(self, value: bytes | None = b"value") -> None:
        self.value = value
        self.calls = 0
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, key: str) -> bytes | None:
        with self._lock:
            self.calls += 1
            value = self.value
        self.entered.set()
        assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        return value


def timed(clock: Clock, **options: Any) -> TieredCache[bytes]:
    fields: dict[str, Any] = {"name": "test", "jitter": 0.0, "refresh_at": 1.0} | options
    return TieredCache(TieredConfig(**fields), BytesCodec(), clock=clock)


def test_put_get_and_expiry() -> None:
    clock = Clock()
    cache = timed(clock, ttl=10)
    assert cache.get("a") is None
    assert cache.put("a", b"1")
    assert cache.get("a") == b"1"
    assert cache.put("b", b"2", ttl=100)
    clock.now += 10.5
    assert cache.get("a") is None
    assert cache.get("b") == b"2"
    stats = cache.stats()
    assert (stats.counters["local_hits"], stats.counters["misses"]) == (2, 2)
    assert stats.hit_rate == 0.5


def test_jitter_spreads_the_ends() -> None:
    clock = Clock()
    cache = timed(clock, ttl=100, jitter=0.5)
    for index in range(200):
        cache.put(str(index), b"")
    alive = []
    for step in (49, 50, 51):  # ends lie between 50 and 150 seconds
        clock.now += step
        alive.append(sum(cache.get(str(index)) is not None for index in range(200)))
    assert alive[0] == 200
    assert 50 < alive[1] < 150
    assert alive[2] == 0


def test_negative_answers_are_remembered_for_their_own_time() -> None:
    clock = Clock()
    cache = timed(clock, ttl=100, negative_ttl=5)
    source = Source(None)
    assert cache.get_or_load("a", source) is None
    assert cache.get_or_load("a", source) is None
    assert source.calls == 1
    assert cache.stats().counters["negative_hits"] == 1
    clock.now += 5.1
    source.value = b"now"
    assert cache.get_or_load("a", source) == b"now"
    off = timed(clock, negative_ttl=0)
    source.value = None
    assert [off.get_or_load("a", source), off.get_or_load("a", source)] == [None, None]
    assert source.calls == 4


def test_one_load_for_many_threads() -> None:
    cache = cache_on(None)
    source = Source()
    source.gate.clear()
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(cache.get_or_load, "a", source) for _ in range(20)]
        wait_until(lambda: cache.stats().counters["joined"] == 19, "19 followers")
        source.gate.set()
        assert {answer.result() for answer in answers} == {b"value"}
    assert source.calls == 1


def test_a_load_that_ends_between_a_look_and_a_flight_is_not_repeated() -> None:
    cache = cache_on(None)
    source, look, looks = Source(), cache.local, []

    def slow_look(key: str) -> Any:
        cell = look(key)
        looks.append(cell)
        if len(looks) == 1:  # somebody else loads and stores, whole, after this caller has found nothing
            assert cache.get_or_load(key, source) == b"value"
        return cell

    cache.local = slow_look  # type: ignore[method-assign]
    assert cache.get_or_load("a", source) == b"value"
    assert (source.calls, len(cache.flights)) == (1, 0)


def test_an_error_reaches_all_and_is_not_kept() -> None:
    cache = cache_on(None)
    source = Source()
    source.gate.clear()
    source.error = OSError("no source")
    with ThreadPoolExecutor(5) as pool:
        answers = [pool.submit(cache.get_or_load, "a", source) for _ in range(5)]
        wait_until(lambda: cache.stats().counters["joined"] == 4, "4 followers")
        source.gate.set()
        for answer in answers:
            with pytest.raises(OSError, match="no source"):
                answer.result()
    source.error = None
    assert cache.get_or_load("a", source) == b"value"
    assert (source.calls, cache.copies.open_fills) == (2, 0)


def test_an_invalidation_during_a_load_drops_its_result() -> None:
    cache = cache_on(None)
    source = Source(b"old")
    source.gate.clear()
    with ThreadPoolExecutor(3) as pool:
        before = pool.submit(cache.get_or_load, "a", source)
        assert source.entered.wait(30)
        source.value = b"new"
        assert cache.invalidate("a")
        after = pool.submit(cache.get_or_load, "a", source)
        wait_until(lambda: source.calls == 2, "a load of its own for who came later")
        source.gate.set()
        assert before.result() == b"old"
        assert after.result() == b"new"
    assert cache.get("a") == b"new"


def test_a_loader_that_asks_for_its_own_key() -> None:
    cache = cache_on(None)

    def loader(key: str) -> bytes | None:
        return cache.get_or_load(key, loader)

    with pytest.raises(RecursiveLoadError, match="'a'"):
        cache.get_or_load("a", loader)
    assert cache.get_or_load("b", lambda key: cache.get_or_load("c", lambda _: b"inner")) == b"inner"


def test_refresh_ahead_nobody_waits() -> None:
    clock = Clock()
    cache = timed(clock, ttl=100, refresh_at=0.5)
    source = Source(b"1")
    assert cache.get_or_load("a", source) == b"1"
    clock.now += 60
    source.value = b"2"
    source.gate.clear()
    source.entered.clear()
    assert cache.get_or_load("a", source) == b"1"  # the old value, while the new one is loaded
    assert source.entered.wait(30)
    assert [cache.get_or_load("a", source) for _ in range(5)] == [b"1"] * 5
    source.gate.set()
    wait_until(lambda: cache.get("a") == b"2", "the refreshed value")
    assert source.calls == 2
    clock.now += 95  # its life began with the refresh
    assert cache.get("a") == b"2"
    cache.close()


def test_a_failed_refresh_keeps_the_value_until_it_expires() -> None:
    clock = Clock()
    cache = timed(clock, ttl=100, refresh_at=0.5)
    source = Source(b"1")
    cache.get_or_load("a", source)
    source.error = OSError("no source")
    clock.now += 60
    assert cache.get_or_load("a", source) == b"1"
    wait_until(lambda: cache.stats().counters["load_failures"] == 1, "a failed refresh")
    wait_until(lambda: len(cache.flights) == 0, "its end")
    assert cache.get("a") == b"1"
    clock.now += 41
    with pytest.raises(OSError, match="no source"):
        cache.get_or_load("a", source)
    cache.close()


def test_a_refresh_slower_than_what_is_left_of_the_entry() -> None:
    clock = Clock()
    cache = timed(clock, ttl=100, refresh_at=0.5)
    source = Source(b"1")
    cache.get_or_load("a", source)
    clock.now += 60
    source.value = b"2"
    source.gate.clear()
    source.entered.clear()
    cache.get_or_load("a", source)
    assert source.entered.wait(30)
    clock.now += 50  # expired: readers wait for the refresh now, and start no load beside it
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(cache.get_or_load, "a", source)
        wait_until(lambda: cache.stats().counters["joined"] == 1, "a follower")
        source.gate.set()
        assert late.result() == b"2"
    assert source.calls == 2
    cache.close()


def test_refreshes_are_bounded() -> None:
    clock = Clock()
    cache = timed(clock, ttl=100, refresh_at=0.5, max_refreshes=1)
    source = Source(b"1")
    for key in ("a", "b"):
        cache.get_or_load(key, source)
    clock.now += 60
    source.gate.clear()
    for key in ("a", "b"):
        assert cache.get_or_load(key, source) == b"1"
    assert cache.stats().counters["refreshes_skipped"] == 1
    source.gate.set()
    cache.close()


def test_limits_of_the_first_level() -> None:
    cache = cache_on(None, max_entries=2, max_bytes=300)
    for key in "abcd":
        cache.get_or_load(key, Source(b"x"))
        assert cache.get(key) == b"x"
    assert sum(cache.get(key) is not None for key in "abcd") == 2
    assert cache.stats().local["evicted_size"] == 2
    cache.put("d", bytes(1000))
    assert cache.get("d") is None
    off = cache_on(None, max_entries=0)
    off.put("a", b"1")
    assert off.get("a") is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "a:b"),
        ("name", ""),
        ("ttl", 0),
        ("jitter", 0.95),
        ("refresh_at", 0),
        ("refresh_at", 2),
        ("max_bytes", -1),
    ],
)
def test_wrong_options_are_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidInputError) as caught:
        TieredConfig(**{"name": "test"} | {field: value})
    assert caught.value.field == field
