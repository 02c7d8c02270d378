"""Two processes' worth of caches on one real Redis: what one does, the other sees."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from autoglm.cache.tiered import ArrayCodec, BytesCodec, StructCodec, TieredCache, TieredConfig
from autoglm.cache.tiered.codec import Kind, frame, pack, unpack
from autoglm.cache.tiered.shared import SharedLevel
from autoglm.errors import InvalidInputError
from benchmarks.redis_server import RedisServer, running
from tests.cache.conftest import Open, cache_on
from tests.cache.tiered.test_alone import Source
from tests.cache.waiting import wait_until, wait_up


@pytest.fixture
def pair(redis: RedisServer, open_level: Open) -> tuple[SharedLevel, SharedLevel]:
    """Two linked levels, as two processes would have."""
    levels = open_level(redis.url), open_level(redis.url)
    wait_up(*levels)
    return levels


def test_a_value_loaded_by_one_is_found_by_the_other(pair: tuple[SharedLevel, SharedLevel]) -> None:
    a, b = cache_on(pair[0]), cache_on(pair[1])
    source = Source()
    assert a.get_or_load("k", source) == b"value"
    assert b.get_or_load("k", source) == b"value"
    assert source.calls == 1
    assert b.stats().counters["shared_hits"] == 1
    wait_until(lambda: b.get("k") == b"value" and b.stats().counters["local_hits"] >= 1, "a local hit")


def test_writes_and_removals_reach_the_other(pair: tuple[SharedLevel, SharedLevel]) -> None:
    a, b = cache_on(pair[0]), cache_on(pair[1])
    a.put("k", b"1")
    wait_until(lambda: b.get("k") == b"1" and b.copies.get("k", b.copies.clock()) is not None, "a copy")
    assert a.put("k", b"2")
    wait_until(lambda: b.get("k") == b"2", "the new value")
    assert a.get("k") == b"2"
    assert a.invalidate("k")
    wait_until(lambda: b.get("k") is None, "its removal")
    for key in ("k", "l"):
        a.put(key, b"3")
        b.get(key)
    assert a.clear()
    wait_until(lambda: b.get("k") is None and b.get("l") is None, "everything's removal")


def test_expiry_and_flush_reach_copies(pair: tuple[SharedLevel, SharedLevel], redis: RedisServer) -> None:
    a, b = cache_on(pair[0]), cache_on(pair[1])
    a.put("short", b"1", ttl=0.05)
    a.put("long", b"1")
    wait_until(lambda: b.get("short") is None, "its expiry")
    wait_until(lambda: b.get("long") == b"1" and b.copies.get("long", b.copies.clock()) is not None, "a copy")
    with redis.client() as client:
        client.flushall()
    wait_until(lambda: b.get("long") is None, "the flush")


def test_one_load_for_two_processes(pair: tuple[SharedLevel, SharedLevel]) -> None:
    a, b = cache_on(pair[0]), cache_on(pair[1])
    source = Source()
    source.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(cache.get_or_load, "k", source) for cache in (a, b, a, b)]
        wait_until(lambda: a.stats().counters["waits"] + b.stats().counters["waits"] > 2, "the other process to wait")
        source.gate.set()
        assert [answer.result() for answer in answers] == [b"value"] * 4
    assert source.calls == 1


def test_a_leader_that_died_is_waited_for_no_longer_than_its_lease(pair: tuple[SharedLevel, SharedLevel]) -> None:
    assert isinstance(pair[0].begin_load("test:k", 0.1), bytes)  # and never heard of again
    source = Source()
    assert cache_on(pair[1], load_lease=5).get_or_load("k", source) == b"value"
    assert source.calls == 1


def test_a_leader_that_fails_frees_the_other_process(pair: tuple[SharedLevel, SharedLevel]) -> None:
    a, b = cache_on(pair[0], load_lease=60), cache_on(pair[1], load_lease=60)
    bad, good = Source(), Source(b"good")
    bad.gate.clear()
    bad.error = OSError("no source")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(a.get_or_load, "k", bad)
        assert bad.entered.wait(30)
        second = pool.submit(b.get_or_load, "k", good)
        wait_until(lambda: b.stats().counters["waits"] > 0, "the other process to wait")
        bad.gate.set()
        with pytest.raises(OSError, match="no source"):
            first.result()
        assert second.result() == b"good"


def test_an_invalidation_by_another_process_during_a_load(pair: tuple[SharedLevel, SharedLevel]) -> None:
    a, b = cache_on(pair[0]), cache_on(pair[1])
    source = Source(b"old")
    source.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        before = pool.submit(a.get_or_load, "k", source)
        assert source.entered.wait(30)
        source.value = b"new"
        assert b.invalidate("k")
        after = pool.submit(a.get_or_load, "k", source)  # joins the old load, which turns out not to be current
        wait_until(lambda: a.stats().counters["joined"] == 1, "a follower")
        source.gate.set()
        assert before.result() == b"old"
        assert after.result() == b"new"
    assert (a.get("k"), b.get("k")) == (b"new", b"new")
    assert a.stats().counters["dropped_loads"] == 1


def test_a_refresh_does_not_overwrite_a_newer_value(pair: tuple[SharedLevel, SharedLevel]) -> None:
    a, b = cache_on(pair[0], refresh_at=0.0001), cache_on(pair[1])
    source = Source(b"1")
    a.get_or_load("k", source)
    source.gate.clear()
    source.entered.clear()
    wait_until(lambda: a.get_or_load("k", source) == b"1" and source.entered.is_set(), "a refresh")
    b.put("k", b"newer")
    source.gate.set()
    wait_until(lambda: len(a.flights) == 0, "its end")
    assert (a.get("k"), b.get("k")) == (b"newer", b"newer")
    a.close()


def test_negative_answers_are_shared(pair: tuple[SharedLevel, SharedLevel]) -> None:
    source = Source(None)
    assert [cache_on(level).get_or_load("k", source) for level in pair] == [None, None]
    assert source.calls == 1


def test_another_version_or_type_is_a_miss_and_is_replaced(pair: tuple[SharedLevel, SharedLevel]) -> None:
    config = TieredConfig(name="typed")
    old: TieredCache[dict[str, int]] = TieredCache(config, StructCodec(dict[str, int], "d", 1), shared=pair[0])
    new: TieredCache[dict[str, str]] = TieredCache(config, StructCodec(dict[str, str], "d", 2), shared=pair[1])
    old.put("k", {"a": 1})
    assert new.get("k") is None
    assert new.get_or_load("k", lambda _: {"a": "x"}) == {"a": "x"}
    assert new.get("k") == {"a": "x"}
    assert old.get("k") is None
    assert old.stats().counters["unreadable"] == 1


@pytest.mark.parametrize(
    "junk",
    [b"", b"x", b"\x80\x04}q\x00.", bytes(100), pack(frame(Kind.VALUE, 9, BytesCodec(), b"x"))[:-3], b"\xc1" * 40],
    ids=["empty", "short", "pickle", "zeros", "cut", "codes"],  # a frame's own id is drawn anew in every process
)
def test_junk_in_the_store_is_a_miss(pair: tuple[SharedLevel, SharedLevel], redis: RedisServer, junk: bytes) -> None:
    cache = cache_on(pair[0])
    with redis.client() as client:
        client.set("autoglm:v:test:k", junk)
    assert cache.get("k") is None
    assert cache.get_or_load("k", Source(b"good")) == b"good"
    if junk[:8]:
        assert cache.get("k") == b"good"


def test_arrays_come_back_equal(pair: tuple[SharedLevel, SharedLevel]) -> None:
    caches = [TieredCache(TieredConfig(name="arrays"), ArrayCodec(), shared=level) for level in pair]
    made = np.arange(24, dtype=np.float32).reshape(2, 3, 4)[:, ::-1]
    caches[0].put("k", made)
    found = caches[1].get("k")
    assert found is not None
    np.testing.assert_array_equal(found, made)
    assert not found.flags.writeable
    with pytest.raises(ValueError, match="not stored"):
        ArrayCodec().encode(np.array([object()]))
    for bad in (("O", (1,), b"12345678"), ("<f4", (2,), b"1234"), ("<f4", (-1,), b"1234")):
        with pytest.raises(ValueError):  # noqa: PT011  numpy words two of them
            ArrayCodec().decode(StructCodec(tuple[str, tuple[int, ...], bytes], "").encode(bad))


def test_values_over_the_limit_are_not_stored(redis: RedisServer, open_level: Open) -> None:
    cache = cache_on(open_level(redis.url, max_value_bytes=100))
    wait_up(cache.shared)  # type: ignore[arg-type]
    cache.put("k", b"small")
    assert cache.put("k", bytes(200)) is False
    assert cache.get("k") is None  # nor is the old value left
    assert cache.get_or_load("k", lambda _: bytes(200)) == bytes(200)
    with redis.client() as client:
        assert client.keys() == []


def test_a_full_store(tmp_path: Path, open_level: Open) -> None:
    with running(tmp_path, "--maxmemory", "1mb", "--maxmemory-policy", "noeviction") as server:
        cache = cache_on(open_level(server.url), negative_ttl=0, load_lease=3600)
        assert cache.shared is not None
        wait_up(cache.shared)
        cache.put("k", b"old")
        with server.client() as client:
            client.config_set("maxmemory", 1)
        assert cache.put("k", b"new") is False
        assert cache.get("k") is None  # removed: an old value does not outlive a write
        source = Source()
        assert cache.get_or_load("l", source) == b"value"  # at once: no lease is waited for
        assert cache.stats().counters["waits"] == 0

        def fill_up(key: str) -> bytes:
            with server.client() as client:
                client.config_set("maxmemory", 1)
            return b"late"

        with server.client() as client:
            client.config_set("maxmemory", 0)
        assert cache.get_or_load("m", fill_up) == b"late"
        with server.client() as client:
            assert client.keys("*:test:m") == []  # nor does anybody wait for a load that could not be stored
            client.config_set("maxmemory", 0)
        assert cache.shared.breaker.closed
        assert cache.put("k", b"new")
        assert cache.get("k") == b"new"


def test_frames() -> None:
    made = frame(Kind.VALUE, 1.5, BytesCodec(), b"x", 0.25)
    assert unpack(pack(made)) == made
    assert (made.ttl_ms, made.cost_ms) == (1500, 250)
    assert pack(made)[:8] != pack(made)[:8]


def test_a_url_that_is_none_and_no_password_in_any_text() -> None:
    from autoglm.cache.tiered.config import SharedConfig
    from autoglm.cache.tiered.connections import safe_address

    assert safe_address("redis://user:secret@host:6379/3?password=secret") == "redis://host:6379/3"
    with pytest.raises(InvalidInputError) as caught:
        SharedLevel(SharedConfig(url="http://user:secret@host/"))
    assert "secret" not in caught.value.message


def test_counters_are_exact_under_threads(pair: tuple[SharedLevel, SharedLevel]) -> None:
    counters = pair[0].counters
    start = counters["probes"]
    threads = [threading.Thread(target=lambda: [counters.add("probes") for _ in range(2000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters["probes"] - start == 8000
