"""The most valuable entries of one run, kept in a file for the next."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from autoglm.cache.tiered.coherence import Cell

log = logging.getLogger(__name__)
_FORMAT = 1
_BATCH = 64
Progress = Callable[[int, int], None]


class WarmEntry(Struct, frozen=True, array_like=True):
    """One entry.

    Attributes:
        data: the value's frame, for a cache whose keys say all about their values; else empty: the value may have
            changed since, and only the shared level knows.
        ends: when it expires, seconds since the epoch.
        worth: seconds of loading saved so far, per byte.
    """

    cache: str
    key: str
    data: bytes
    ends: float
    worth: float


class _File(Struct, frozen=True):
    format: int
    entries: list[WarmEntry]


class Warmable(Protocol):
    """A cache that can be saved and warmed."""

    def warm_entries(self) -> list[WarmEntry]:
        """What is worth keeping."""

    def warm(self, entries: Sequence[WarmEntry]) -> int:
        """Take entries of an earlier run; how many are here now."""


class WarmUp:
    """One file for several caches.

    Args:
        limit: entries saved at most, the most valuable first.
    """

    def __init__(self, path: Path, caches: dict[str, Warmable], limit: int = 2000) -> None:
        self._path = path
        self._caches = caches
        self._limit = limit

    def save(self) -> int:
        """Replace the file in one step; how many entries it holds. Readable by its owner only: it holds answers."""
        entries = [entry for cache in self._caches.values() for entry in cache.warm_entries()]
        entries = sorted(entries, key=lambda entry: entry.worth, reverse=True)[: self._limit]
        partial = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as sink:
                sink.write(msgspec.msgpack.encode(_File(_FORMAT, entries)))
                sink.flush()
                os.fsync(sink.fileno())
            partial.replace(self._path)
        finally:
            partial.unlink(missing_ok=True)
        return len(entries)

    def load(self, progress: Progress | None = None) -> int:
        """Give the caches what the file holds and is not yet over; how many entries are here now.

        A file that is missing or damaged warms nothing, and is no error.
        """
        entries = self._read()
        done = count = 0
        for name, cache in self._caches.items():
            mine = [entry for entry in entries if entry.cache == name]
            for start in range(0, len(mine), _BATCH):
                batch = mine[start : start + _BATCH]
                count += cache.warm(batch)
                done += len(batch)
                if progress is not None:
                    progress(done, len(entries))
        return count

    def _read(self) -> list[WarmEntry]:
        try:
            held = msgspec.msgpack.decode(self._path.read_bytes(), type=_File)
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError) as error:
            log.warning("the warm-up file %s cannot be used: %s", self._path, error)
            return []
        now = time.time()
        return [e for e in held.entries if e.ends > now and e.cache in self._caches] if held.format == _FORMAT else []


def worth_of(cell: Cell[Any]) -> float:
    """Seconds of loading that an entry has saved, per byte it takes."""
    return (1 + cell.hits) * max(cell.cost, 1e-4) / max(cell.size, 1)
