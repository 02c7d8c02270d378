"""Hit rates over time: what is kept of the caches' counters."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.errors import EngineUnavailableError
from autoglm.messages import CacheStats, Stats
from autoglm.server.console.hits import (
    LEVELS,
    HitHistory,
    Readings,
    Totals,
    of_engine,
    redis_of_engine,
    together,
    watch,
)

Steps = list[dict[str, tuple[int, int] | None]]
STEP = st.one_of(st.none(), st.tuples(st.integers(0, 50), st.integers(0, 50)))
READINGS = st.lists(st.dictionaries(st.sampled_from(LEVELS), STEP, max_size=4), max_size=12)


def level(history: HitHistory, name: str) -> dict[str, object]:
    """One level as the page gets it."""
    return next(dict(each) for each in history.fields()["levels"] if each["name"] == name)


@given(READINGS, st.integers(1, 8))
def test_what_is_kept_are_the_last_differences(steps: Steps, kept: int) -> None:
    """Against the plain sum: each step says how many hits and misses came since the reading before it."""
    history = HitHistory(kept)
    totals: dict[str, Totals] = {}
    for step in steps:
        now: dict[str, Totals | None] = {}
        for name, more in step.items():
            if more is not None:
                hits, lookups = totals.get(name, (0, 0))
                totals[name] = hits + more[0], lookups + sum(more)
            now[name] = None if more is None else totals[name]
        history.add(now)
    for name in LEVELS:
        found = level(history, name)
        column = [step.get(name) for step in steps][-kept:]
        assert found["hits"] == [None if more is None else more[0] for more in column]
        assert found["lookups"] == [None if more is None else sum(more) for more in column]
        told = [step[name] for step in steps if name in step]
        assert found["on"] is (bool(told) and told[-1] is not None)


def test_an_engine_that_was_started_again_begins_at_nothing() -> None:
    history = HitHistory()
    for totals in ((5, 10), (7, 20), (1, 2)):
        history.add({"kv_prefix": totals})
    found = level(history, "kv_prefix")
    assert (found["hits"], found["lookups"]) == ([5, 2, 1], [10, 10, 2])


def test_a_cache_without_room_is_off() -> None:
    def cache(name: str, room: int) -> CacheStats:
        return CacheStats(name=name, hits=1, misses=2, evictions=0, entries=0, bytes=0, capacity_bytes=room)

    rest = dict.fromkeys((f for f in Stats.__struct_fields__ if f != "caches"), 0)
    found = of_engine(Stats(**rest, caches=[cache("kv_prefix", 9), cache("visual_features", 0), cache("new", 9)]))
    assert found == dict.fromkeys(found) | {"kv_prefix": (1, 3)}
    assert "kv_host" in found
    assert redis_of_engine(Stats(**rest, caches=[cache("kv_prefix", 9)])) is None
    assert redis_of_engine(Stats(**rest, caches=[cache("kv_redis", 0), cache("images_redis", 0)])) == (2, 6)


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [(None, None, None), ((1, 2), None, (1, 2)), (None, (0, 0), (0, 0)), ((1, 2), (3, 4), (4, 6))],
)
def test_a_level_of_two_processes(one: Totals | None, other: Totals | None, both: Totals | None) -> None:
    assert together(one, other) == both


async def test_readings_go_on_after_one_that_failed() -> None:
    history = HitHistory(100)
    calls = 0

    async def read() -> Readings:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise EngineUnavailableError("away")
        return {"local": (0, calls)}

    watching = asyncio.create_task(watch(history, read, 0.001))
    while calls < 4:
        await asyncio.sleep(0.001)
    watching.cancel()
    found = level(history, "local")
    assert found["lookups"][:2] == [1, 2]  # type: ignore[index]
