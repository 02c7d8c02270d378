"""What the two levels need of a first level."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeVar

V = TypeVar("V")


class FirstLevel(Protocol[V]):
    """A bounded in-process cache. Thread-safe by itself; nobody else locks around it."""

    def get(self, key: str) -> V | None:
        """The value; ``None`` for a miss."""

    def put(self, key: str, value: V, *, ttl: float, weight: int) -> object:
        """Insert or replace; ``ttl`` in seconds, ``weight`` in bytes."""

    def remove(self, key: str) -> object: ...

    def clear(self) -> object: ...

    def items(self) -> Iterator[tuple[str, V]]:
        """A snapshot, in no promised order."""

    def figures(self) -> dict[str, float]:
        """``entries``, ``bytes``, ``evictions`` and whatever else it counts."""
