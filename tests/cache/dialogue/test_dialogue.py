"""Reuse inside a session, and nothing beyond it: in memory and on a real Redis."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from autoglm.cache.dialogue import DialogueCache, DialogueConfig, Purge, Question
from autoglm.cache.dialogue.store import Place, Reading
from autoglm.cache.tiered import BytesCodec
from autoglm.errors import InvalidInputError
from benchmarks.redis_server import Proxy, RedisServer, running
from tests.cache.conftest import Open
from tests.cache.waiting import wait_until, wait_up

Make = Callable[..., DialogueCache[bytes]]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def local(clock: Clock | None = None, **options: Any) -> DialogueCache[bytes]:
    return DialogueCache(DialogueConfig(**{"jitter": 0.0} | options), BytesCodec(), clock=clock or Clock())


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest, redis: RedisServer, open_level: Open) -> Make:
    """Makes a cache, in memory or on Redis."""

    def begin(**options: Any) -> DialogueCache[bytes]:
        if request.param == "memory":
            return local(**options)
        shared = open_level(redis.url)
        wait_up(shared)
        return DialogueCache(DialogueConfig(**{"jitter": 0.0} | options), BytesCodec(), shared=shared)

    return begin


def ask(query: str, session: str = "s", tenant: str = "t", **fields: bytes) -> Question:
    return Question(tenant=tenant, session=session, query=query, **fields)


def test_an_answer_is_found_by_equal_queries_of_the_session_only(make: Make) -> None:
    cache = make()
    found = cache.lookup(ask("打开微信"))
    assert found.value is None
    assert cache.keep(found.ticket, b"answer")
    assert cache.lookup(ask(" 打开微信！")).value == b"answer"
    for other in (
        ask("打开支付宝"),
        ask("打开微信", session="s2"),
        ask("打开微信", tenant="t2"),
        ask("打开微信", screen=b"x"),
        ask("打开微信", context=b"x"),
    ):
        assert cache.lookup(other).value is None
    assert cache.figures()["hits"] == 1


def test_a_purge_removes_the_session_and_nothing_else(make: Make) -> None:
    cache = make()
    for session in ("s", "s2"):
        for query in ("a", "b", "c"):
            cache.keep(cache.lookup(ask(query, session)).ticket, b"x")
    cache.keep(cache.lookup(ask("a", tenant="t2")).ticket, b"theirs")
    assert cache.purge("t", "s") == Purge(3, everywhere=True)
    assert [cache.lookup(ask(q)).value for q in "abc"] == [None] * 3
    assert [cache.lookup(ask(q, "s2")).value for q in "abc"] == [b"x"] * 3
    assert cache.lookup(ask("a", tenant="t2")).value == b"theirs"
    assert cache.purge("t", "s").entries == 0
    assert cache.clear()
    assert cache.lookup(ask("a", "s2")).value is None


def test_an_answer_begun_before_a_purge_is_not_kept(make: Make) -> None:
    cache = make()
    ticket = cache.lookup(ask("a")).ticket
    cache.sensitive_action_hook("t")("s")
    assert cache.keep(ticket, b"old") is False
    assert cache.lookup(ask("a")).value is None
    assert cache.keep(cache.lookup(ask("a")).ticket, b"new")
    assert cache.lookup(ask("a")).value == b"new"


def test_a_purge_during_a_load(make: Make) -> None:
    cache = make()
    gate, entered = threading.Event(), threading.Event()
    answers = iter([b"old", b"new"])

    def loader(_: Question) -> bytes:
        value = next(answers)
        entered.set()
        assert value == b"new" or gate.wait(30)
        return value

    with ThreadPoolExecutor(2) as pool:
        before = [pool.submit(cache.get_or_load, ask("a"), loader) for _ in range(2)]
        assert entered.wait(30)
        wait_until(lambda: cache.figures()["joined"] == 1, "a follower")
        assert cache.purge("t", "s").everywhere
        assert cache.get_or_load(ask("a"), loader) == b"new"  # does not wait for the old one
        gate.set()
        assert [b.result() for b in before] == [b"old"] * 2
    assert cache.lookup(ask("a")).value == b"new"


def test_loads_are_single_and_errors_are_not_kept(make: Make) -> None:
    cache = make()
    calls: list[int] = []

    def loader(_: Question) -> bytes:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("no model")
        return b"x"

    with pytest.raises(OSError, match="no model"):
        cache.get_or_load(ask("a"), loader)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: cache.get_or_load(ask("a"), loader), range(8))) == [b"x"] * 8
    assert len(calls) == 2


def test_a_load_that_ends_between_a_look_and_a_flight_is_not_repeated(make: Make) -> None:
    cache = make()
    read, looks = cache.store.read, []

    def slow_look(place: Place) -> Reading:
        found = read(place)
        looks.append(found)
        if len(looks) == 1:  # somebody else loads and stores, whole, after this caller has found nothing
            assert cache.get_or_load(ask("a"), lambda _: b"theirs") == b"theirs"
        return found

    cache.store.read = slow_look  # type: ignore[method-assign]
    assert cache.get_or_load(ask("a"), lambda _: pytest.fail("loaded twice")) == b"theirs"
    assert cache.figures()["loads"] == 1


def test_an_answer_that_cannot_be_written_leaves_nobody_waiting(make: Make) -> None:
    cache = make()
    for _ in range(2):  # a flight that never ended would keep the second caller for good
        with pytest.raises(TypeError):
            cache.get_or_load(ask("a"), lambda _: object())  # type: ignore[arg-type, return-value]
    assert cache.get_or_load(ask("a"), lambda _: b"x") == b"x"


def test_a_session_holds_so_many_entries_and_the_least_recently_used_leaves(make: Make) -> None:
    cache = make(max_entries=3)
    for query in "abc":
        cache.keep(cache.lookup(ask(query)).ticket, query.encode())
    assert cache.lookup(ask("a")).value == b"a"
    cache.keep(cache.lookup(ask("d")).ticket, b"d")
    assert [cache.lookup(ask(q)).value for q in "abcd"] == [b"a", None, b"c", b"d"]
    assert cache.figures()["evicted_cap"] == 1
    assert cache.purge("t", "s").entries == 3


def test_no_answer_of_another_user_in_10000_hits(make: Make) -> None:
    """Every question that user A has answers to is asked by others, in A's session, in every way the API has."""
    cache = make(max_entries=100)
    queries = [f"question {i}" for i in range(50)]
    for query in queries:
        cache.keep(cache.lookup(ask(query, tenant="A")).ticket, b"A's answer")
    assert all(cache.lookup(ask(q, tenant="A")).value == b"A's answer" for q in queries)
    rng = random.Random(1)
    leaks = 0
    for index in range(10_000):
        tenant = rng.choice(["B", "C", "a", "A ", "A\0", "", f"user-{index}"])
        leaks += cache.lookup(ask(rng.choice(queries), tenant=tenant)).value is not None
    assert leaks == 0
    assert cache.figures()["hits"] == 50


def test_an_entry_in_the_wrong_place_is_not_served(redis: RedisServer, open_level: Open) -> None:
    """Even where two keys meet: tenant and digest are compared in full."""
    shared = open_level(redis.url)
    wait_up(shared)
    cache = DialogueCache(DialogueConfig(), BytesCodec(), shared=shared)
    ticket = cache.lookup(ask("a", tenant="A")).ticket
    cache.keep(ticket, b"A's")
    cache.lookup(ask("a", tenant="B"))
    with redis.client() as client:
        names = {name.decode(): name for name in client.keys("*:conv:*")}
        (mine,) = names
        generations = client.keys("*:gen:*")
        theirs = next(g.decode() for g in generations if mine.split(":conv:")[0] not in g.decode())
        moved = theirs.split(":gen:")[0] + ":conv:" + mine.split(":conv:")[1]
        client.copy(mine, moved)
        client.set(theirs, client.get(theirs.replace(theirs.split(":")[3], mine.split(":")[3])))
    assert cache.lookup(ask("a", tenant="B")).value is None
    assert cache.figures()["foreign"] == 1


def test_a_question_keeps_its_session_alive() -> None:
    clock, told = Clock(), []
    cache = DialogueCache(
        DialogueConfig(jitter=0.0),
        BytesCodec(),
        clock=clock,
        on_session_alive=lambda session, seconds: told.append((session, seconds)),
    )
    cache.keep(cache.lookup(ask("a")).ticket, b"x")
    for _ in range(3):
        clock.now += 170
        assert cache.lookup(ask("another")).value is None
    assert cache.lookup(ask("a")).value == b"x"
    clock.now += 181
    assert cache.lookup(ask("a")).value is None
    assert told == [("s", 180.0)] * 6


def test_renewal_on_redis_is_in_the_background(redis: RedisServer, open_level: Open) -> None:
    shared = open_level(redis.url)
    wait_up(shared)
    cache = DialogueCache(DialogueConfig(jitter=0.0), BytesCodec(), shared=shared)
    cache.keep(cache.lookup(ask("a")).ticket, b"x")
    wait_until(lambda: cache.figures()["renewals"] == 1, "the first renewal")
    with redis.client() as client:
        (entry,) = client.keys("*:conv:*")
        client.pexpire(entry, 5000)
        again = DialogueCache(DialogueConfig(jitter=0.0), BytesCodec(), shared=shared)
        again.lookup(ask("b"))
        wait_until(lambda: client.pttl(entry) > 170_000, "a longer life")


def test_jitter() -> None:
    clock = Clock()
    cache = DialogueCache(DialogueConfig(jitter=0.5), BytesCodec(), clock=clock)
    for index in range(100):
        cache.keep(cache.lookup(ask("a", f"s{index}")).ticket, b"x")
    clock.now += 180
    alive = sum(cache._look(q, cache._place(q)).value is not None for q in (ask("a", f"s{i}") for i in range(100)))
    assert 20 < alive < 80


def test_sessions_and_bytes_in_memory_are_bounded() -> None:
    cache = local(max_sessions=2, max_bytes=1000)
    for session in ("a", "b", "c"):
        cache.keep(cache.lookup(ask("q", session)).ticket, b"x")
    assert [cache.lookup(ask("q", s)).value for s in ("c", "b")] == [b"x", b"x"]
    assert cache.figures()["sessions"] == 2
    for index in range(20):
        cache.keep(cache.lookup(ask(f"long {index}", "b")).ticket, bytes(300))
    assert cache.figures()["bytes"] <= 1000


def test_two_processes_share_sessions_and_purges(redis: RedisServer, open_level: Open) -> None:
    levels = open_level(redis.url), open_level(redis.url)
    wait_up(*levels)
    a, b = (DialogueCache(DialogueConfig(), BytesCodec(), shared=level) for level in levels)
    for index in range(200):
        query = f"q{index % 7}"
        a.keep(a.lookup(ask(query)).ticket, b"x")
        assert b.lookup(ask(query)).value == b"x"
        late = b.lookup(ask("other")).ticket
        assert a.purge("t", "s").everywhere
        assert b.lookup(ask(query)).value is None  # at once, without waiting for anything
        assert b.keep(late, b"late") is False


def test_a_purge_while_the_store_is_away(own_redis: RedisServer, open_level: Open) -> None:
    with Proxy(own_redis.port) as proxy:
        fast = {"operation_timeout": 0.1, "first_probe": 0.01, "max_probe": 0.05}
        cut_off, other = open_level(proxy.url, **fast), open_level(own_redis.url)
        wait_up(cut_off, other)
        a, b = (DialogueCache(DialogueConfig(), BytesCodec(), shared=level) for level in (cut_off, other))
        a.keep(a.lookup(ask("q")).ticket, b"x")
        proxy.silent = True
        assert a.purge("t", "s") == Purge(0, everywhere=False)
        assert a.lookup(ask("q")).value is None
        assert a.get_or_load(ask("q"), lambda _: b"loaded") == b"loaded"
        assert a.lookup(ask("q")).value is None  # nothing is kept that could not be purged
        proxy.silent = False
        proxy.cut()
        wait_up(cut_off)
        assert b.lookup(ask("q")).value is None
        assert a.lookup(ask("q")).value is None
        assert a.figures()["pending_purges"] == 0
        cut_off.close()


def test_a_full_store_still_purges(tmp_path: Path, open_level: Open) -> None:
    with running(tmp_path, "--maxmemory-policy", "noeviction") as server:
        shared = open_level(server.url)
        wait_up(shared)
        cache = DialogueCache(DialogueConfig(), BytesCodec(), shared=shared)
        cache.keep(cache.lookup(ask("q")).ticket, b"x")
        with server.client() as client:
            client.config_set("maxmemory", 1)
        assert cache.keep(cache.lookup(ask("r")).ticket, b"x") is False
        assert cache.purge("t", "s") == Purge(1, everywhere=True)
        assert cache.lookup(ask("q")).value is None


@pytest.mark.parametrize(("field", "value"), [("ttl", 0), ("jitter", 0.6), ("max_entries", 0), ("name", "a b")])
def test_wrong_options_are_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidInputError) as caught:
        DialogueConfig(**{field: value})
    assert caught.value.field == field


def test_a_purge_of_no_session() -> None:
    with pytest.raises(InvalidInputError):
        local().purge("t", "a:b")
