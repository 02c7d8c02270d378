from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autoglm.cache.tiered import BytesCodec, SharedConfig, TieredCache, TieredConfig
from autoglm.cache.tiered.shared import SharedLevel
from benchmarks.redis_server import RedisServer

Open = Callable[..., SharedLevel]


@pytest.fixture(scope="module")
def module_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for the tests of a module that leave it running."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(module_redis: RedisServer) -> RedisServer:
    """The module's server, empty."""
    with module_redis.client() as client:
        client.flushall()
    return module_redis


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that the test may kill."""
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def open_level() -> Iterator[Open]:
    """Opens shared levels that end with the test. Time limits are wide: the machine may be busy."""
    levels: list[SharedLevel] = []

    def begin(url: str, **options: Any) -> SharedLevel:
        level = SharedLevel(SharedConfig(url=url, **{"operation_timeout": 2.0} | options))
        levels.append(level)
        return level

    yield begin
    for level in levels:
        level.close()


def cache_on(shared: SharedLevel | None, **options: Any) -> TieredCache[bytes]:
    """A cache of bytes, exact in time: no jitter."""
    fields: dict[str, Any] = {"name": "test", "jitter": 0.0, "refresh_at": 1.0} | options
    return TieredCache(TieredConfig(**fields), BytesCodec(), shared=shared)
