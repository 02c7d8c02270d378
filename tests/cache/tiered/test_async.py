"""The asynchronous face: cancellation, sharing with threads, off-loop work."""

from __future__ import annotations

import asyncio
import threading

import pytest

from autoglm.cache.tiered import AsyncTieredCache, RecursiveLoadError
from benchmarks.redis_server import RedisServer
from tests.cache.conftest import Open, cache_on
from tests.cache.waiting import wait_up


class AsyncSource:
    """An asynchronous loader that counts and waits."""

    def __init__(self, value: bytes | None = b"value") -> None:
        self.value = value
        self.calls = 0
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()

    async def __call__(self, key: str) -> bytes | None:
        self.calls += 1
        value = self.value
        self.entered.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return value


@pytest.fixture(params=["alone", "shared"])
async def cache(request: pytest.FixtureRequest, redis: RedisServer, open_level: Open) -> AsyncTieredCache[bytes]:
    shared = None
    if request.param == "shared":
        shared = open_level(redis.url)
        await asyncio.to_thread(wait_up, shared)
    return AsyncTieredCache(cache_on(shared))


async def joined(cache: AsyncTieredCache[bytes], count: int) -> None:
    while cache.cache.stats().counters["joined"] < count:
        await asyncio.sleep(0.002)


async def test_followers_survive_a_cancelled_leader(cache: AsyncTieredCache[bytes]) -> None:
    source = AsyncSource()
    leader = asyncio.create_task(cache.get_or_load("a", source))
    await source.entered.wait()
    followers = [asyncio.create_task(cache.get_or_load("a", source)) for _ in range(5)]
    await joined(cache, 5)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    source.gate.set()
    assert await asyncio.gather(*followers) == [b"value"] * 5
    assert source.calls == 1
    assert await cache.get("a") == b"value"
    await cache.close()


async def test_a_load_that_all_have_left_is_still_kept(cache: AsyncTieredCache[bytes]) -> None:
    source = AsyncSource()
    caller = asyncio.create_task(cache.get_or_load("a", source))
    await source.entered.wait()
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    source.gate.set()
    assert await cache.get_or_load("a", source) == b"value"
    assert source.calls == 1
    await cache.close()


async def test_a_cancelled_follower_takes_nobody_along(cache: AsyncTieredCache[bytes]) -> None:
    source = AsyncSource()
    leader = asyncio.create_task(cache.get_or_load("a", source))
    await source.entered.wait()
    follower = asyncio.create_task(cache.get_or_load("a", source))
    await joined(cache, 1)
    follower.cancel()
    await asyncio.gather(follower, return_exceptions=True)
    source.gate.set()
    assert await leader == b"value"
    await cache.close()


async def test_an_error_reaches_all_and_is_not_kept(cache: AsyncTieredCache[bytes]) -> None:
    source = AsyncSource()
    source.error = OSError("no source")
    callers = [asyncio.create_task(cache.get_or_load("a", source)) for _ in range(5)]
    await joined(cache, 4)
    source.gate.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [str(r) for r in results] == ["no source"] * 5
    source.error = None
    assert await cache.get_or_load("a", source) == b"value"
    assert source.calls == 2
    await cache.close()


async def test_threads_and_coroutines_share_a_load(cache: AsyncTieredCache[bytes]) -> None:
    source = AsyncSource()
    leader = asyncio.create_task(cache.get_or_load("a", source))
    await source.entered.wait()
    inner = [asyncio.create_task(asyncio.to_thread(cache.cache.get_or_load, "a", lambda _: b"other")) for _ in range(3)]
    await joined(cache, 3)
    source.gate.set()
    assert await asyncio.gather(leader, *inner) == [b"value"] * 4
    await cache.close()


async def test_a_coroutine_follows_a_thread(cache: AsyncTieredCache[bytes]) -> None:
    gate, entered = threading.Event(), threading.Event()

    def loader(_: str) -> bytes:
        entered.set()
        assert gate.wait(30)
        return b"thread's"

    leader = asyncio.create_task(asyncio.to_thread(cache.cache.get_or_load, "a", loader))
    await asyncio.to_thread(entered.wait)
    follower = asyncio.create_task(cache.get_or_load("a", AsyncSource()))
    await joined(cache, 1)
    gate.set()
    assert await asyncio.gather(leader, follower) == [b"thread's"] * 2
    await cache.close()


async def test_an_invalidation_during_a_load(cache: AsyncTieredCache[bytes]) -> None:
    source = AsyncSource(b"old")
    before = asyncio.create_task(cache.get_or_load("a", source))
    await source.entered.wait()
    assert await cache.invalidate("a")
    source.value = b"new"
    after = asyncio.create_task(cache.get_or_load("a", source))
    while source.calls < 2:
        await asyncio.sleep(0.002)
    source.gate.set()
    assert await before == b"old"
    assert await after == b"new"
    assert await cache.get("a") == b"new"
    await cache.close()


async def test_a_closed_loop_frees_its_followers(cache: AsyncTieredCache[bytes]) -> None:
    source = AsyncSource()
    leader = asyncio.create_task(cache.get_or_load("a", source))
    await source.entered.wait()
    follower = asyncio.create_task(asyncio.to_thread(cache.cache.get_or_load, "a", lambda _: b"own"))
    await joined(cache, 1)
    leader.cancel()  # or it might be the first to start again, and the follower would wait for it once more
    await asyncio.gather(leader, return_exceptions=True)
    await cache.close()  # the load ends without a value; who waited for it starts one of their own
    assert await follower == b"own"


async def test_recursive_loaders(cache: AsyncTieredCache[bytes]) -> None:
    async def loader(key: str) -> bytes | None:
        return await cache.get_or_load(key, loader)

    with pytest.raises(RecursiveLoadError):
        await cache.get_or_load("a", loader)
    await cache.close()


async def test_refresh_ahead() -> None:
    cache = AsyncTieredCache(cache_on(None, ttl=100, refresh_at=0.0001))
    source = AsyncSource(b"1")
    source.gate.set()
    assert await cache.get_or_load("a", source) == b"1"
    await asyncio.sleep(0.02)
    source.gate.clear()
    source.value = b"2"
    assert await cache.get_or_load("a", source) == b"1"
    while source.calls < 2:
        await asyncio.sleep(0.002)
    source.gate.set()
    while await cache.get("a") != b"2":
        await asyncio.sleep(0.002)
    await cache.close()
