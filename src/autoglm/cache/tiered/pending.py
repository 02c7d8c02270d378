"""Removals that could not be told to the shared store, kept until they can."""

from __future__ import annotations

import threading


class PendingRemovals:
    """A bounded set of keys; one more than it holds, and it means every key. Thread-safe."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._keys: set[str] = set()
        self._everything = False
        self._under_way = 0

    def __len__(self) -> int:
        """Keys that wait, or are being delivered."""
        return len(self._keys) + self._under_way

    @property
    def everything(self) -> bool:
        """The set has overflowed."""
        return self._everything

    def add(self, *keys: str) -> None:
        with self._lock:
            self._keys.update(keys)
            if len(self._keys) > self._limit:
                self._add_all()

    def add_all(self) -> None:
        """Every key of the namespace is to go."""
        with self._lock:
            self._add_all()

    def _add_all(self) -> None:
        self._everything = True
        self._keys.clear()

    def take(self) -> tuple[list[str], bool]:
        """What is to be removed now: (keys, everything). Given back by :meth:`add` if that fails; then :meth:`end`."""
        with self._lock:
            keys, everything = list(self._keys), self._everything
            self._keys.clear()
            self._everything = False
            self._under_way += len(keys)
            return keys, everything

    def end(self, keys: list[str]) -> None:
        """The delivery of what :meth:`take` gave has ended, well or not."""
        with self._lock:
            self._under_way -= len(keys)
