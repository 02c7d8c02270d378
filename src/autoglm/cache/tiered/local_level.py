"""The room's own first-level cache in front of a shared level."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from autoglm.cache.local import LocalCache, LocalConfig, Policy

V = TypeVar("V")
_LONGEST = 4_000_000.0  # the cache's own limit is a little above


class LocalLevel(Generic[V]):
    """A :class:`LocalCache` as :class:`FirstLevel`: every entry brings its own life and weight.

    Args:
        clock: of the cache it stands in; the system's monotonic one lets the extension read the coarse clock itself.
            Lives are checked again by their owner, so the coarse clock's 10 ms do no harm.
    """

    def __init__(
        self,
        max_entries: int,
        max_bytes: int,
        clock: Callable[[], float] = time.monotonic,
        policy: Policy = Policy.ADAPTIVE,
    ) -> None:
        config = LocalConfig(max_entries=max_entries, max_weight=max_bytes, ttl=None, policy=policy)
        self._cache: LocalCache[str, V] = LocalCache(config, clock=None if clock is time.monotonic else clock)

    def get(self, key: str) -> V | None:
        return self._cache.get(key)

    def put(self, key: str, value: V, *, ttl: float, weight: int) -> None:
        self._cache.put(key, value, min(ttl, _LONGEST), weight)

    def remove(self, key: str) -> None:
        self._cache.remove(key)

    def clear(self) -> None:
        self._cache.clear()

    def items(self) -> Iterator[tuple[str, V]]:
        return iter(self._cache.items())

    def figures(self) -> dict[str, float]:
        stats = self._cache.stats()
        causes = {f"evicted_{cause}": float(count) for cause, count in stats.removed.items()}
        return {"entries": stats.entries, "bytes": stats.weight, "window_share": self._cache.window_share, **causes}
