"""Entries that outlive their process in a file."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from autoglm.cache.tiered.warm import WarmUp
from benchmarks.redis_server import RedisServer
from tests.cache.conftest import Open, cache_on
from tests.cache.waiting import wait_up


def test_values_return_only_where_they_cannot_be_wrong(tmp_path: Path) -> None:
    fixed, loose = cache_on(None, name="fixed", immutable=True), cache_on(None, name="loose")
    for cache in (fixed, loose):
        cache.put("a", b"1")
        cache.get_or_load("none", lambda _: None)
    up = WarmUp(tmp_path / "deep" / "file", {"fixed": fixed, "loose": loose})
    assert up.save() == 2
    assert b"1" in (tmp_path / "deep" / "file").read_bytes()
    again, other = cache_on(None, name="fixed", immutable=True), cache_on(None, name="loose")
    shown: list[tuple[int, int]] = []
    count = WarmUp(tmp_path / "deep" / "file", {"fixed": again, "loose": other}).load(lambda *at: shown.append(at))
    assert count == 1
    assert (again.get("a"), other.get("a")) == (b"1", None)
    assert shown[-1] == (2, 2)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file"]


def test_the_most_valuable_are_saved(tmp_path: Path) -> None:
    cache = cache_on(None, immutable=True)
    for index in range(20):
        cache.put(str(index), b"x")
        for _ in range(index):
            cache.get(str(index))
    assert WarmUp(tmp_path / "f", {"test": cache}, limit=5).save() == 5
    again = cache_on(None, immutable=True)
    assert WarmUp(tmp_path / "f", {"test": again}).load() == 5
    assert sorted(key for key, _ in again.items()) == ["15", "16", "17", "18", "19"]


def test_lives_go_on(tmp_path: Path) -> None:
    cache = cache_on(None, immutable=True)
    cache.put("short", b"1", ttl=0.05)
    cache.put("long", b"1", ttl=100)
    WarmUp(tmp_path / "f", {"test": cache}).save()
    time.sleep(0.06)
    again = cache_on(None, immutable=True)
    assert WarmUp(tmp_path / "f", {"test": again}).load() == 1
    ((key, cell),) = again.items()
    assert key == "long"
    assert cell.expires - again.copies.clock() < 100


@pytest.mark.parametrize("data", [None, b"", b"junk", b"\x82\xa6format\x02\xa7entries\x90"])
def test_no_usable_file_is_no_error(tmp_path: Path, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / "f").write_bytes(data)
    assert WarmUp(tmp_path / "f", {"test": cache_on(None)}).load() == 0


def test_with_a_shared_level(tmp_path: Path, redis: RedisServer, open_level: Open) -> None:
    levels = [open_level(redis.url) for _ in range(2)]
    wait_up(*levels)
    first = cache_on(levels[0])
    for key in ("kept", "changed", "gone"):
        first.put(key, b"old")
        first.get(key)
    while not all(first.copies.get(key, first.copies.clock()) for key in ("kept", "changed", "gone")):
        for key in ("kept", "changed", "gone"):
            first.get(key)
    WarmUp(tmp_path / "f", {"test": first}).save()
    first.put("changed", b"new")
    first.invalidate("gone")
    second = cache_on(levels[1])
    assert WarmUp(tmp_path / "f", {"test": second}).load() == 2
    assert [second.get(key) for key in ("kept", "changed", "gone")] == [b"old", b"new", None]
