"""Disk and Redis: what comes back is what was kept, or nothing; trouble is a miss and never an error."""

from __future__ import annotations

import hashlib
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.cache.host import DiskStore, RedisStore
from autoglm.cache.host.frames import seal, unseal
from autoglm.errors import InvalidInputError
from tests.cache.host.redis_server import RedisServer, redis_server


def items(count: int, size: int = 1000) -> list[tuple[bytes, memoryview]]:
    names = [hashlib.sha256(bytes([i])).digest() for i in range(count)]
    return [(name, memoryview(name * (size // 32))) for name in names]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis") / "log") as server:
        yield server


def test_a_frame_is_refused_if_one_bit_is_wrong() -> None:
    (name, payload), (other, _) = items(2)
    data = seal(name, payload)
    assert unseal(name, data) == payload
    assert unseal(other, data) is None
    assert unseal(name, data[:-1]) is None
    assert unseal(name, b"") is None
    for position in (0, 8, 40, 48, len(data) - 1):
        broken = bytearray(data)
        broken[position] ^= 1
        assert unseal(name, bytes(broken)) is None


def test_disk_survives_a_restart(tmp_path: Path) -> None:
    kept = items(5)
    first = DiskStore(tmp_path / "kv", 10**6)
    assert first.put(kept)
    second = DiskStore(tmp_path / "kv", 10**6)
    assert second.size == first.size
    names = [name for name, _ in kept]
    assert second.get([*names, bytes(32)]) == [*(payload for _, payload in kept), None]
    assert (second.counters.hits, second.counters.misses) == (5, 1)


def test_disk_stays_within_its_bytes_and_drops_what_was_used_least_recently(tmp_path: Path) -> None:
    kept = items(4)
    store = DiskStore(tmp_path, 3 * (992 + 80))
    store.put(kept[:3])
    assert store.get([kept[0][0]]) == [kept[0][1]]
    store.put(kept[3:])
    assert store.counters.evictions == 1
    found = store.get([name for name, _ in kept])
    assert [payload is not None for payload in found] == [True, False, True, True]
    assert sum(f.stat().st_size for f in tmp_path.glob("??/*")) == store.size <= store.capacity_bytes


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 3), st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=25))
def test_disk_against_a_plain_lru(room: int, actions: list[tuple[bool, int]]) -> None:
    every = items(6)
    with tempfile.TemporaryDirectory() as folder:
        store = DiskStore(Path(folder), room * (992 + 80))
        order: list[int] = []
        for puts, index in actions:
            if puts:
                assert store.put([every[index]])
                order = order if index in order else [*order, index][-room:]
                continue
            expected = every[index][1] if index in order else None
            assert store.get([every[index][0]]) == [expected]
            if index in order:
                order = [*(i for i in order if i != index), index]
        assert store.size == sum(file.stat().st_size for file in Path(folder).rglob("*.kv"))
        again = DiskStore(Path(folder), room * (992 + 80))
        assert again.get([name for name, _ in every]) == [p if i in order else None for i, (_, p) in enumerate(every)]


def test_disk_forgets_what_is_damaged_or_half_written(tmp_path: Path) -> None:
    kept = items(2)
    store = DiskStore(tmp_path, 10**6)
    store.put(kept)
    file = next(tmp_path.glob(f"??/{kept[0][0].hex()}.kv"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    (file.parent / f"{kept[0][0].hex()}.kv.123").write_bytes(b"half")
    again = DiskStore(tmp_path, 10**6)
    assert not list(tmp_path.glob("??/*.123"))
    assert again.get([kept[0][0], kept[1][0]]) == [None, kept[1][1]]
    assert again.counters.broken == 1
    assert not file.exists()


def test_redis_keeps_and_gives(redis: RedisServer) -> None:
    kept = items(40, 64_000)
    one, two = (RedisStore(redis.url, ttl=60, timeout=20) for _ in range(2))
    assert one.put(kept)
    assert two.get([*(name for name, _ in kept), bytes(32)]) == [*(payload for _, payload in kept), None]
    one.close()
    two.close()


def test_a_foreign_value_under_our_name_is_a_miss(redis: RedisServer) -> None:
    import redis as client

    ((name, _),) = items(1)
    with client.Redis.from_url(redis.url) as raw:
        raw.set(b"autoglm:kv:" + name.hex().encode(), b"\x80\x04cos\nsystem\n.")
    store = RedisStore(redis.url, timeout=20)
    assert store.get([name]) == [None]
    assert store.counters.broken == 1
    store.close()


def test_redis_down_is_a_miss_asked_once_until_the_pause_is_over(tmp_path: Path) -> None:
    now = [100.0]
    kept = items(1)
    with redis_server(tmp_path / "log") as server:
        store = RedisStore(server.url, timeout=20, clock=lambda: now[0])
        assert store.put(kept)
        server.kill()
        names = [kept[0][0]]
        assert store.get(names) == [None]
        assert not store.available
        assert store.get(names) == [None]
        assert not store.put(kept)
        assert store.counters.errors == 1  # only the first call met the dead server
        server.start()
        now[0] += 1.0
        assert store.available
        assert store.get(names) == [None]  # back, and empty
        assert store.put(kept)
        assert store.get(names) == [kept[0][1]]
        store.close()


def test_a_silent_server_is_given_up(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        store = RedisStore(f"redis://127.0.0.1:{silent.getsockname()[1]}", timeout=0.05)
        assert store.get([bytes(32)]) == [None]
        assert not store.available
        store.close()


def test_a_full_redis_still_reads(tmp_path: Path) -> None:
    kept = items(2, 64_000)
    with redis_server(tmp_path / "log", "--maxmemory", "2mb", "--maxmemory-policy", "noeviction") as server:
        store = RedisStore(server.url, timeout=20)
        assert store.put(kept)
        assert not store.put([(hashlib.sha256(b"big").digest(), memoryview(bytes(3 * 2**20)))] * 2)
        assert store.available
        assert store.get([name for name, _ in kept]) == [payload for _, payload in kept]
        store.close()


def test_a_wrong_password_is_a_miss_and_never_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server(tmp_path / "log", "--requirepass", "right-secret") as server:
        wrong = RedisStore(server.url, password="wrong-secret", timeout=20)
        assert wrong.get([bytes(32)]) == [None]
        assert not wrong.available
        right = RedisStore(server.url, password="right-secret", timeout=20)
        assert right.put(items(1))
        assert "secret" not in caplog.text
        wrong.close()
        right.close()


def test_no_url_is_refused() -> None:
    with pytest.raises(InvalidInputError) as caught:
        RedisStore("nonsense://x")
    assert caught.value.field == "kv_redis_url"
