"""Blocks in Redis, shared by replicas. Time limits on everything; a store that fails is left alone for a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from autoglm.cache.breaker import Breaker
from autoglm.cache.host.frames import seal, unseal
from autoglm.cache.host.stores import Item, StoreCounters
from autoglm.errors import InvalidInputError

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)
_PREFIX = b"autoglm:kv:"
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
"""Seconds for which a store that failed is left alone; then one call probes."""


class RedisStore:
    """Values expire after ``ttl`` seconds without a new :meth:`put`.

    A lost or silent server opens the breaker for reading and writing; an answer that says no (its memory is full)
    only that for writing. No connection is made before the first use, and no call is repeated.

    Args:
        password: kept out of the URL, which other processes may read.
        timeout: seconds to connect, and between any two pieces of an answer.

    Raises:
        InvalidInputError: the package ``redis`` is missing, or the URL is none.
    """

    name = "kv_redis"

    def __init__(
        self,
        url: str,
        *,
        password: str | None = None,
        ttl: int = 3600,
        timeout: float = 0.25,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters = StoreCounters()
        self._ttl = ttl
        self._reads, self._writes = (Breaker(_FIRST_PAUSE, _LONGEST_PAUSE, clock) for _ in range(2))
        self._client = _client(url, password, timeout)

    @property
    def available(self) -> bool:
        return self._reads.passable

    @property
    def size(self) -> int:
        return 0

    @property
    def capacity_bytes(self) -> int:
        return 0

    def get(self, names: Sequence[bytes]) -> list[memoryview | None]:
        found: list[memoryview | None] = [None] * len(names)
        if names and self._reads.admit():
            start = time.perf_counter()
            keys = [_PREFIX + name.hex().encode() for name in names]
            answer = self._call(lambda: self._client.mget(keys), self._reads)
            for index, data in enumerate(answer if isinstance(answer, list) else []):
                if data is not None:
                    found[index] = unseal(names[index], data)
                    self.counters.broken += found[index] is None
            self.counters.seconds += time.perf_counter() - start
        hits = sum(payload is not None for payload in found)
        self.counters.hits += hits
        self.counters.misses += len(names) - hits
        return found

    def put(self, items: Sequence[Item]) -> bool:
        if not (self._reads.passable and self._writes.admit()):
            return False

        def write() -> bool:
            with self._client.pipeline(transaction=False) as pipeline:
                for name, payload in items:
                    pipeline.set(_PREFIX + name.hex().encode(), seal(name, payload), ex=self._ttl)
                pipeline.execute()
            return True

        if self._call(write, self._writes) is None:
            return False
        self.counters.puts += len(items)
        return True

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def _call(self, call: Callable[[], object], breaker: Breaker) -> object | None:
        """The answer to a call that ``breaker`` admitted."""
        from redis import RedisError, ResponseError

        try:
            answer = call()
        except (RedisError, OSError) as error:
            self.counters.errors += 1
            breaker.settle(well=False)
            if breaker is self._writes and not isinstance(error, ResponseError):
                self._reads.settle(well=False)
            log.warning("Redis is left alone for %g s: %s", breaker.pause, type(error).__name__)
            return None
        except BaseException:
            breaker.settle(well=False)
            raise
        breaker.settle(well=True)
        return answer


def _client(url: str, password: str | None, timeout: float) -> Redis:
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise InvalidInputError(
            "kv_redis_url needs the package redis: pip install 'autoglm[redis]'", field="kv_redis_url"
        ) from error
    try:
        return redis.Redis.from_url(
            url,
            **({} if password is None else {"password": password}),
            protocol=3,
            socket_connect_timeout=timeout,
            socket_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            max_connections=1,
        )
    except ValueError as error:
        raise InvalidInputError("kv_redis_url is not a Redis URL", field="kv_redis_url") from error
