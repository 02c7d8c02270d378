"""The two-level cache against a plain dict with ends: alone on its own clock, and as two processes on a real Redis."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoglm.cache.tiered import BytesCodec, TieredCache, TieredConfig
from benchmarks.redis_server import RedisServer
from tests.cache.conftest import Open, cache_on
from tests.cache.tiered.test_alone import Clock
from tests.cache.waiting import wait_until, wait_up

KEYS = st.sampled_from("abcd")
VALUES = st.binary(min_size=1, max_size=3)
TTL, ABSENT_TTL = 10.0, 4.0
ALONE = st.one_of(
    st.tuples(st.just("get"), KEYS, VALUES),
    st.tuples(st.just("put"), KEYS, VALUES),
    st.tuples(st.just("load"), KEYS, st.one_of(st.none(), VALUES)),
    st.tuples(st.just("invalidate"), KEYS, VALUES),
    st.tuples(st.just("clear"), KEYS, VALUES),
    st.tuples(st.just("wait"), st.sampled_from(["1.5", "5"]), VALUES),
)
"""What to do, with which key (or for how many seconds), and the value that is put or would be loaded."""


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(ALONE, max_size=40))
def test_alone_it_is_a_dict_with_ends(actions: list[tuple[str, str, bytes | None]]) -> None:
    clock = Clock()
    config = TieredConfig(name="test", jitter=0.0, refresh_at=1.0, ttl=TTL, negative_ttl=ABSENT_TTL)
    cache: TieredCache[bytes] = TieredCache(config, BytesCodec(), clock=clock)
    model: dict[str, tuple[bytes | None, float]] = {}
    loads = 0

    def held(key: str) -> tuple[bytes | None, float] | None:
        found = model.get(key)
        return found if found is not None and clock.now < found[1] else None

    for action, key, value in actions:
        if action == "wait":
            clock.now += float(key)
        elif action == "get":
            expected = held(key)
            assert cache.get(key) == (None if expected is None else expected[0])
        elif action == "put":
            assert value is not None
            assert cache.put(key, value)
            model[key] = value, clock.now + TTL
        elif action == "load":
            expected = held(key)
            if expected is None:
                loads += 1
                expected = model[key] = value, clock.now + (ABSENT_TTL if value is None else TTL)
            assert cache.get_or_load(key, lambda _, value=value: value) == expected[0]  # type: ignore[misc]
        elif action == "invalidate":
            assert cache.invalidate(key)
            model.pop(key, None)
        else:
            assert cache.clear()
            model.clear()
        assert cache.counters["loads"] == loads
    assert {key: cell.value for key, cell in cache.items()} == {k: v[0] for k, v in model.items() if held(k)}


SHARED = st.tuples(st.sampled_from(["put", "load", "invalidate", "get", "clear"]), st.booleans(), KEYS, VALUES)


def test_two_processes_are_one_dict(redis: RedisServer, open_level: Open) -> None:
    """Who changed a key sees that at once, the other as soon as the push has come."""
    levels = open_level(redis.url), open_level(redis.url)
    wait_up(*levels)

    @settings(
        max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(st.lists(SHARED, max_size=25))
    def check(actions: list[tuple[str, bool, str, bytes]]) -> None:
        nodes = cache_on(levels[0]), cache_on(levels[1])
        assert nodes[0].clear()
        model: dict[str, bytes] = {}
        for action, second, key, value in actions:
            mine, other = nodes[second], nodes[not second]
            if action == "put":
                assert mine.put(key, value)
                model[key] = value
            elif action == "load":
                model.setdefault(key, value)
                assert mine.get_or_load(key, lambda _, value=value: value) == model[key]  # type: ignore[misc]
            elif action == "invalidate":
                assert mine.invalidate(key)
                model.pop(key, None)
            elif action == "clear":
                assert mine.clear()
                model.clear()
            assert mine.get(key) == model.get(key)
            wait_until(lambda o=other, k=key: o.get(k) == model.get(k), "the other's answer")  # type: ignore[misc]

    check()
