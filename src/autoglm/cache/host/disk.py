"""Blocks in a directory: one file each, written beside its place and renamed, bounded in bytes, oldest use first."""

from __future__ import annotations

import logging
import os
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from autoglm.cache.host.frames import seal, unseal
from autoglm.cache.host.stores import Item, StoreCounters

log = logging.getLogger(__name__)
_SUFFIX = ".kv"


class DiskStore:
    """Survives a restart: what is in the directory is found again, most recently used last.

    Args:
        capacity_bytes: files go, least recently used first, while they are more than this.

    Raises:
        OSError: the directory cannot be made or read.
    """

    name = "kv_disk"

    def __init__(self, directory: Path, capacity_bytes: int) -> None:
        self.counters = StoreCounters()
        self.capacity_bytes = capacity_bytes
        self.size = 0
        self._directory = directory
        self._sizes: OrderedDict[bytes, int] = OrderedDict()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        found: list[tuple[float, bytes, int]] = []
        for file in directory.glob(f"??/*{_SUFFIX}*"):
            stat = file.stat()
            if file.suffix != _SUFFIX or len(file.stem) != 64:
                file.unlink(missing_ok=True)  # left half-written by a process that died
                continue
            found.append((stat.st_mtime, bytes.fromhex(file.stem), stat.st_size))
        for _, name, size in sorted(found):
            self._sizes[name] = size
            self.size += size
        self._shrink()

    @property
    def available(self) -> bool:
        return True

    def get(self, names: Sequence[bytes]) -> list[memoryview | None]:
        start = time.perf_counter()
        found = [self._read(name) if name in self._sizes else None for name in names]
        hits = sum(payload is not None for payload in found)
        self.counters.hits += hits
        self.counters.misses += len(names) - hits
        self.counters.seconds += time.perf_counter() - start
        return found

    def put(self, items: Sequence[Item]) -> bool:
        try:
            for name, payload in items:
                if name not in self._sizes:
                    self._write(name, payload)
        except OSError as error:
            self.counters.errors += 1
            log.warning("KV blocks cannot be written to disk: %s", error.strerror)
            return False
        self._shrink()
        return True

    def close(self) -> None:
        """Nothing is open between calls."""

    def _write(self, name: bytes, payload: memoryview) -> None:
        file = self._file(name)
        file.parent.mkdir(exist_ok=True)
        partial = file.with_suffix(f"{_SUFFIX}.{os.getpid()}")
        data = seal(name, payload)
        partial.write_bytes(data)
        partial.replace(file)
        self._sizes[name] = len(data)
        self.size += len(data)
        self.counters.puts += 1

    def _read(self, name: bytes) -> memoryview | None:
        file = self._file(name)
        try:
            payload = unseal(name, file.read_bytes())
            if payload is not None:
                self._sizes.move_to_end(name)
                os.utime(file)
                return payload
        except OSError:
            self._forget(name)
            return None
        self.counters.broken += 1
        self._forget(name)
        return None

    def _shrink(self) -> None:
        while self.size > self.capacity_bytes and self._sizes:
            self._forget(next(iter(self._sizes)))
            self.counters.evictions += 1

    def _forget(self, name: bytes) -> None:
        self.size -= self._sizes.pop(name)
        self._file(name).unlink(missing_ok=True)

    def _file(self, name: bytes) -> Path:
        text = name.hex()
        return self._directory / text[:2] / (text + _SUFFIX)
