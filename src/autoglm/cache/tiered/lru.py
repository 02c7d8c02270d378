"""A plain LRU as first level: ordered dict, entry and weight limits, time to live."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

V = TypeVar("V")


class LRULevel(Generic[V]):
    """Thread-safe by one lock. An entry heavier than the whole limit is not kept; ``max_entries`` 0 keeps none."""

    def __init__(self, max_entries: int, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, tuple[V, float, int]] = OrderedDict()
        self._bytes = 0
        self._gone: Counter[str] = Counter()

    def get(self, key: str) -> V | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if self._clock() >= entry[1]:
                self._drop(key, "expired")
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: str, value: V, *, ttl: float, weight: int) -> None:
        with self._lock:
            if key in self._entries:
                self._drop(key, "replaced")
            if self._max_entries == 0 or weight > self._max_bytes:
                return
            self._entries[key] = value, self._clock() + ttl, weight
            self._bytes += weight
            while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
                self._drop(next(iter(self._entries)), "size")

    def remove(self, key: str) -> None:
        with self._lock:
            if key in self._entries:
                self._drop(key, "removed")

    def clear(self) -> None:
        with self._lock:
            self._gone["removed"] += len(self._entries)
            self._entries.clear()
            self._bytes = 0

    def items(self) -> Iterator[tuple[str, V]]:
        with self._lock:
            return iter([(key, entry[0]) for key, entry in self._entries.items()])

    def figures(self) -> dict[str, float]:
        with self._lock:
            causes = {f"evicted_{cause}": float(count) for cause, count in self._gone.items()}
            return {"entries": len(self._entries), "bytes": self._bytes, **causes}

    def _drop(self, key: str, cause: str) -> None:
        self._bytes -= self._entries.pop(key)[2]
        self._gone[cause] += 1
