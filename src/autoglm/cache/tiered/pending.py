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

    def __len__(self) -> int:
        return len(self._keys)

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
        """What is to be removed now: (keys, everything). Given back by :meth:`add` if that fails."""
        with self._lock:
            keys, everything = list(self._keys), self._everything
            self._keys.clear()
            self._everything = False
            return keys, everything
