"""A store that dies, hangs, forgets, fills up or refuses: callers must not notice more than a miss."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from autoglm.cache.tiered import BreakerState, TieredCache
from autoglm.cache.tiered.link import LinkState
from autoglm.cache.tiered.pending import PendingRemovals
from autoglm.cache.tiered.shared import SharedLevel
from benchmarks.redis_server import Proxy, RedisServer, running
from tests.cache.conftest import Open, cache_on
from tests.cache.tiered.test_alone import Source
from tests.cache.waiting import wait_until, wait_up

FAST = {"operation_timeout": 0.3, "first_probe": 0.01, "max_probe": 0.1, "heartbeat": 0.1, "lease": 0.5}


class Users:
    """Threads that read, load, write and remove; every error and every answer to another question is kept."""

    def __init__(self, cache: TieredCache[bytes]) -> None:
        self.cache = cache
        self.operations = 0
        self.problems: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(seed,)) for seed in range(4)]

    def _work(self, seed: int) -> None:
        rng = random.Random(seed)
        while not self._stop.wait(0.001):
            key = f"k{rng.randrange(30)}"
            try:
                match rng.randrange(10):
                    case 0:
                        self.cache.put(key, key.encode())
                    case 1:
                        self.cache.invalidate(key)
                    case 2:
                        found = self.cache.get(key)
                        if found not in (None, key.encode()):
                            self.problems.append(f"{key}: {found!r}")
                    case _:
                        found = self.cache.get_or_load(key, lambda k: k.encode())
                        if found != key.encode():
                            self.problems.append(f"{key}: {found!r}")
            except Exception as error:
                self.problems.append(repr(error))
            self.operations += 1

    def some(self, count: int = 100) -> None:
        """Wait for so many more operations."""
        goal = self.operations + count
        wait_until(lambda: self.operations >= goal, f"{count} operations")

    def __enter__(self) -> Users:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


@contextmanager
def users_of(shared: SharedLevel) -> Iterator[Users]:
    """Users at work; at the end, nothing may have gone wrong for them, and everything must be well again."""
    with Users(cache_on(shared, load_lease=1)) as users:
        users.some()
        yield users
        wait_up(shared)
        users.some()
    assert users.problems == []
    wait_until(lambda: shared.settled, "a store that has been told everything")
    assert not shared.pending.everything


def test_killed_under_load_and_started_again(own_redis: RedisServer, open_level: Open) -> None:
    shared = open_level(own_redis.url, **FAST)
    wait_up(shared)
    with users_of(shared) as users:
        own_redis.kill()
        wait_until(lambda: shared.breaker.state is not BreakerState.CLOSED, "an open breaker")
        wait_until(lambda: shared.link.state is LinkState.DOWN, "a lost link")
        users.some()
        own_redis.start()
    assert shared.breaker.opened >= 1
    assert shared.link.losses >= 1


def test_flushed_under_load(own_redis: RedisServer, open_level: Open) -> None:
    shared = open_level(own_redis.url, **FAST)
    wait_up(shared)
    with users_of(shared) as users, own_redis.client() as client:
        for _ in range(10):
            client.flushall()
            users.some(20)


def test_connections_killed_under_load(own_redis: RedisServer, open_level: Open) -> None:
    shared = open_level(own_redis.url, **FAST)
    wait_up(shared)
    with users_of(shared) as users, own_redis.client() as client:
        for _ in range(10):
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            users.some(20)
    assert shared.link.losses >= 1


@pytest.mark.parametrize("trouble", ["two seconds of latency", "silence"])
def test_a_network_that_hangs(own_redis: RedisServer, open_level: Open, trouble: str) -> None:
    with Proxy(own_redis.port) as proxy:
        shared = open_level(proxy.url, **FAST)
        wait_up(shared)
        with users_of(shared) as users:
            if trouble == "silence":
                proxy.silent = True
            else:
                proxy.delay = 2.0
            wait_until(lambda: shared.breaker.state is not BreakerState.CLOSED, "an open breaker")
            wait_until(lambda: shared.link.state is LinkState.DOWN, "a lost link")
            users.some()
            proxy.delay, proxy.silent = 0.0, False
            proxy.cut()
        shared.close()


def test_a_wrong_password(tmp_path: Path, open_level: Open, caplog: pytest.LogCaptureFixture) -> None:
    with running(tmp_path, "--requirepass", "right-word") as server:
        wrong = open_level(f"redis://:wrong-word@127.0.0.1:{server.port}/0", **FAST)
        cache = cache_on(wrong)
        source = Source()
        assert [cache.get_or_load("k", source) for _ in range(3)] == [b"value"] * 3
        assert cache.put("k", b"x") is False
        assert wrong.breaker.state is not BreakerState.CLOSED
        right = open_level(f"redis://:right-word@127.0.0.1:{server.port}/0", **FAST)
        wait_up(right)
        assert cache_on(right).put("k", b"x")
    assert "wrong-word" not in caplog.text
    assert "right-word" not in caplog.text


def test_no_server_at_all(open_level: Open) -> None:
    cache = cache_on(open_level("redis://127.0.0.1:1/0", **FAST))
    source = Source()
    assert cache.get_or_load("k", source) == b"value"
    assert cache.invalidate("k") is False
    assert cache.get("k") is None
    assert cache.clear() is False
    cache.prefetch(["k"])


def test_a_full_server_under_load(tmp_path: Path, open_level: Open) -> None:
    with running(tmp_path, "--maxmemory-policy", "noeviction") as server:
        shared = open_level(server.url, **FAST)
        wait_up(shared)
        with users_of(shared) as users, server.client() as client:
            client.config_set("maxmemory", 1)
            users.some()
            assert shared.counters["no_room"] > 0
            client.config_set("maxmemory", 0)


def test_removals_are_delivered_before_the_store_is_read_again(own_redis: RedisServer, open_level: Open) -> None:
    with Proxy(own_redis.port) as proxy:
        cut_off, other = open_level(proxy.url, **FAST), open_level(own_redis.url)
        wait_up(cut_off, other)
        mine, theirs = cache_on(cut_off), cache_on(other)
        mine.put("k", b"old")
        mine.put("l", b"old")
        proxy.silent = True
        assert mine.invalidate("k") is False
        assert mine.put("l", b"new") is False
        assert len(cut_off.pending) == 2
        assert theirs.get("k") == b"old"  # nobody could tell
        proxy.silent = False
        proxy.cut()
        wait_up(cut_off)
        assert (mine.get("k"), theirs.get("k"), mine.get("l")) == (None, None, None)
        cut_off.close()


def test_a_write_that_timed_out_does_not_come_after_its_removal(own_redis: RedisServer, open_level: Open) -> None:
    """The server is stopped with the write in its socket; when it goes on, a newer write must win."""
    assert own_redis.process is not None
    shared, other = open_level(own_redis.url, **FAST), open_level(own_redis.url)
    wait_up(shared, other)
    mine, theirs = cache_on(shared), cache_on(other)
    mine.put("k", b"1")
    own_redis.process.send_signal(signal.SIGSTOP)
    assert mine.put("k", b"2") is False
    own_redis.process.send_signal(signal.SIGCONT)
    wait_up(shared)
    assert mine.put("k", b"3")
    wait_until(lambda: theirs.get("k") == b"3", "the last write")
    assert mine.get("k") == b"3"


def test_a_delivery_that_fails_is_tried_again(own_redis: RedisServer, open_level: Open) -> None:
    with Proxy(own_redis.port) as proxy:
        shared = open_level(proxy.url, **FAST)
        wait_up(shared)
        cache = cache_on(shared)
        cache.put("k", b"old")
        proxy.silent = True
        shared.pending.add("test:k")  # as if added between a probe's delivery and the breaker's closing
        assert shared.deliver() is False
        assert not shared.breaker.closed
        proxy.silent = False
        proxy.cut()
        wait_until(lambda: len(shared.pending) == 0, "the delivery")
        wait_up(shared)
        assert cache.get("k") is None
        shared.close()


def test_too_many_missed_removals_remove_everything(own_redis: RedisServer, open_level: Open) -> None:
    with Proxy(own_redis.port) as proxy:
        shared = open_level(proxy.url, max_pending=3, **FAST)
        wait_up(shared)
        cache = cache_on(shared)
        cache.put("other", b"1")
        proxy.silent = True
        for index in range(5):
            cache.invalidate(f"k{index}")
        assert shared.pending.everything
        proxy.silent = False
        proxy.cut()
        wait_up(shared)
        assert cache.get("other") is None
        shared.close()


def test_copies_without_a_link_live_one_second_at_most(own_redis: RedisServer, open_level: Open) -> None:
    """The bound on staleness: what nobody vouches for is served for ``detached_ttl`` only, by the clock."""
    shared = open_level(own_redis.url, **FAST)
    wait_up(shared)
    cache = cache_on(shared, detached_ttl=1.0)
    cache.put("k", b"1")
    wait_until(lambda: cache.get("k") == b"1" and cache.copies.get("k", cache.copies.clock()) is not None, "a copy")
    copy = cache.copies.get("k", cache.copies.clock())
    assert copy is not None
    assert copy.backed
    shared.link.close()  # nobody vouches any more
    assert cache.copies.get("k", cache.copies.clock()) is None
    cache.get("k")
    now = cache.copies.clock()
    copy = cache.copies.get("k", now)
    assert copy is not None
    assert cache.copies.get("k", copy.at + 0.99) is copy
    assert cache.copies.get("k", copy.at + 1.01) is None


def test_a_link_that_is_not_heard_of_vouches_for_its_lease_only(own_redis: RedisServer, open_level: Open) -> None:
    with Proxy(own_redis.port) as proxy:
        shared = open_level(proxy.url, **FAST)
        wait_up(shared)
        cache = cache_on(shared, detached_ttl=0)
        cache.put("k", b"1")
        wait_until(lambda: cache.get("k") == b"1" and cache.copies.get("k", cache.copies.clock()) is not None, "a copy")
        proxy.silent = True
        last = shared.link.fresh_until
        assert last <= cache.copies.clock() + 0.5
        wait_until(lambda: shared.link.fresh_until == 0.0, "the lease to end")
        assert cache.copies.get("k", cache.copies.clock()) is None
        shared.close()


def test_pending_removals() -> None:
    pending = PendingRemovals(2)
    pending.add("a", "b")
    taken, _ = pending.take()
    assert sorted(taken) == ["a", "b"]
    assert len(pending) == 2  # not there yet
    pending.end(taken)
    assert len(pending) == 0
    assert pending.take() == ([], False)
    pending.add("a", "b", "c")
    assert pending.take() == ([], True)
    pending.add_all()
    assert pending.everything
