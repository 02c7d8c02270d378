"""Stores under the host tier that other processes, or this one after a restart, can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

Item = tuple[bytes, memoryview]
"""(32-byte name, payload)"""


@dataclass(slots=True)
class StoreCounters:
    """Since start; hits, misses and puts in values. ``broken``: values that failed their checksum."""

    hits: int = 0
    misses: int = 0
    puts: int = 0
    evictions: int = 0
    broken: int = 0
    errors: int = 0
    seconds: float = 0.0


class BlobStore(Protocol):
    """Named bytes. No method raises for what goes wrong outside: that is a miss. Called by one thread."""

    name: str
    counters: StoreCounters

    @property
    def available(self) -> bool:
        """Whether it is worth asking now."""

    @property
    def size(self) -> int:
        """Bytes held, where known."""

    @property
    def capacity_bytes(self) -> int:
        """Limit of :attr:`size`; 0: the store's own."""

    def get(self, names: Sequence[bytes]) -> list[memoryview | None]:
        """Payloads, in order."""

    def put(self, items: Sequence[Item]) -> bool:
        """Keep them; whether they are there now."""

    def close(self) -> None:
        """Let go of files and connections."""
