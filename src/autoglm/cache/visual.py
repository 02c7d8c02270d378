"""Visual features by content: what a vision tower computed is kept in bytes, shared by steps and sessions."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from autoglm.cache.stats import Counters


class Sized(Protocol):
    """Anything that knows its size."""

    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=Sized)


class LowerFeatures(Protocol[T]):
    """Where features go that leave the cache. Names are :meth:`VisualCache.name`."""

    def spill(self, name: bytes, value: T) -> None:
        """Keep it, if there is room."""

    def recall(self, name: bytes) -> T | None:
        """What was spilled, equal to the bit."""


@dataclass(slots=True)
class _Entry(Generic[T]):
    value: T
    pins: int
    dropped: bool = False
    ahead: bool = False
    made: float = 0.0


class VisualCache(Generic[T]):
    """LRU of at most ``capacity_bytes``; an entry in use (pinned) is never evicted.

    Keys are (salt, digest): tenants do not share, and the digest is over pixels and processor version. Outside the
    process the version of the tower is part of the name, see :meth:`name`. Pinned entries may exceed the capacity, as
    dropping them would only mean computing them again at once; the surplus goes when they are unpinned. Capacity 0
    switches the cache off. Not thread-safe: the engine's loop owns it, and it alone pins and unpins.

    Args:
        tower: identity of what computes the features: weights and number format.

    Attributes:
        on_encoded: told of each value that was computed here and is new.
        lower: where evicted values go; ``None``: nowhere.
        recall_seconds: spent on values that came back from it.
        dropped_evictions: evictions of what :meth:`drop` named.
        ahead_used, ahead_wasted: of what :meth:`put_ahead` brought, entries that were pinned, and that went unpinned.
    """

    def __init__(self, capacity_bytes: int, tower: bytes = b"") -> None:
        self.capacity_bytes = capacity_bytes
        self.tower = tower
        self.on_encoded: Callable[[tuple[str, bytes], T], None] | None = None
        self.lower: LowerFeatures[T] | None = None
        self.offered = self.recalled = self.dropped_evictions = 0
        self.ahead_used = self.ahead_wasted = 0
        self.recall_seconds = 0.0
        self.bytes = 0
        self.counters = Counters()
        self._entries: OrderedDict[tuple[str, bytes], _Entry[T]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: tuple[str, bytes]) -> bool:
        return key in self._entries

    @property
    def dropped_entries(self) -> int:
        """Entries that :meth:`drop` named and nobody used since."""
        return sum(entry.dropped for entry in self._entries.values())

    @property
    def room(self) -> int:
        """Bytes that are free or can be freed now."""
        return self.capacity_bytes - sum(e.value.nbytes for e in self._entries.values() if e.pins)

    def name(self, key: tuple[str, bytes]) -> bytes:
        """What the features are called in any process: a digest of content, processor, tower and salt."""
        salt, digest = key
        parts = (b"autoglm visual 1", self.tower, digest, salt.encode())
        return hashlib.sha256(b"".join(len(p).to_bytes(8, "little") + p for p in parts)).digest()

    def pin(self, key: tuple[str, bytes]) -> T | None:
        """The entry, held until :meth:`unpin`; counts a hit or a miss."""
        entry = self._entries.get(key)
        if entry is None:
            self.counters.misses += 1
            return None
        if entry.ahead:  # it was computed for its first user: a miss that is counted only now
            entry.ahead = False
            self.ahead_used += 1
            self.counters.misses += 1
        else:
            self.counters.hits += 1
            self.counters.hit_age_seconds += time.monotonic() - entry.made
        entry.pins += 1
        entry.dropped = False
        self._entries.move_to_end(key)
        return entry.value

    def put_pinned(self, key: tuple[str, bytes], value: T) -> T:
        """Insert with one pin. If the key is there already, its value is kept and pinned."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.pins += 1
            entry.dropped = False
            return entry.value
        self._insert(key, value, 1)
        if self.on_encoded is not None:
            self.on_encoded(key, value)
        return value

    def put_ahead(self, key: tuple[str, bytes], value: T) -> None:
        """Insert what was computed here for a user that is expected; until that one comes, it may be evicted."""
        if key in self._entries:
            return
        self._insert(key, value, 0, ahead=True)
        if self.on_encoded is not None:
            self.on_encoded(key, value)

    def recall(self, key: tuple[str, bytes]) -> bool:
        """Bring an evicted value back from the lower level; whether it is here now."""
        if key in self._entries:
            return True
        started = time.perf_counter()
        value = self.lower.recall(self.name(key)) if self.lower is not None and self.capacity_bytes else None
        if value is None:
            return False
        self.recall_seconds += time.perf_counter() - started
        self.recalled += 1
        self._insert(key, value, 0)
        return key in self._entries

    def offer(self, key: tuple[str, bytes], value: T) -> None:
        """Insert what another process computed; it stays as long as any other."""
        if key not in self._entries and self.capacity_bytes:
            self._insert(key, value, 0)
            self.offered += 1

    def unpin(self, key: tuple[str, bytes]) -> None:
        """Give one pin back."""
        entry = self._entries[key]
        entry.pins -= 1
        self._shrink()

    def drop(self, key: tuple[str, bytes]) -> None:
        """Nobody's dialogue shows the image any more: unless it is in use, it is the next to be evicted."""
        entry = self._entries.get(key)
        if entry is not None and entry.pins == 0:
            entry.dropped = True
            self._entries.move_to_end(key, last=False)

    def check_integrity(self, pins: int | None = None) -> None:
        """Raise :class:`RuntimeError` if sizes or pins disagree."""
        size = sum(e.value.nbytes for e in self._entries.values())
        held = sum(e.pins for e in self._entries.values())
        if size != self.bytes or any(e.pins < 0 for e in self._entries.values()):
            raise RuntimeError(f"visual cache counts {self.bytes} bytes, holds {size}")
        if pins is not None and pins != held:
            raise RuntimeError(f"visual cache has {held} pins, its users know {pins}")

    def _insert(self, key: tuple[str, bytes], value: T, pins: int, *, ahead: bool = False) -> None:
        self._entries[key] = _Entry(value, pins, ahead=ahead, made=time.monotonic())
        self.bytes += value.nbytes
        self._shrink()

    def _shrink(self) -> None:
        if self.bytes <= self.capacity_bytes:
            return
        for key in [k for k, e in self._entries.items() if e.pins == 0]:
            entry = self._entries.pop(key)
            value = entry.value
            self.bytes -= value.nbytes
            self.counters.evictions += 1
            self.counters.evicted_age_seconds += time.monotonic() - entry.made
            self.dropped_evictions += entry.dropped
            self.ahead_wasted += entry.ahead
            if self.lower is not None and not entry.dropped:
                self.lower.spill(self.name(key), value)
            if self.bytes <= self.capacity_bytes:
                return
