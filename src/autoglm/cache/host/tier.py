"""The host tier of the KV pool: blocks that leave the device are kept, and come back by copy.

Copies are collected and done together by :meth:`HostTier.flush`, before anything reads or writes the blocks. Within
one batch everything is read before it is written; what would break that order is flushed first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoglm.cache.host.names import ChainNames
from autoglm.cache.host.slabs import SlabArena
from autoglm.cache.host.store import Entry, HostStore

if TYPE_CHECKING:
    from autoglm.cache.host.transfer import Exported, Transfer


@dataclass(slots=True)
class HostCounters:
    """Since start. Hits and misses in tokens: found here, and looked for here in vain.

    ``hit_age_seconds``: sum over loaded blocks of the time since they came.
    """

    hits: int = 0
    misses: int = 0
    saves: int = 0
    loads: int = 0
    declined: int = 0
    flushes: int = 0
    seconds: float = 0.0
    hit_age_seconds: float = 0.0


class HostTier:
    """Host memory for whole KV blocks of one pool. Not thread-safe: the engine's loop owns it.

    Args:
        pages: capacity in blocks. page_bytes: bytes of a block.
        min_blocks: fewer than these are computed again rather than loaded (the measured break-even).
    """

    def __init__(
        self,
        names: ChainNames,
        transfer: Transfer,
        *,
        pages: int,
        page_bytes: int,
        min_blocks: int = 1,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.names = names
        self.min_blocks = min_blocks
        self.counters = HostCounters()
        self.page_bytes = page_bytes
        self.store = HostStore(SlabArena(pages, page_bytes, transfer.move), self._left)
        self._transfer = transfer
        self._clock = clock
        self._saves: dict[int, Entry] = {}
        self._loads: dict[int, Entry] = {}

    def match(self, parent: bytes, identities: Sequence[int], start: int, limit: int, size: int) -> list[Entry]:
        """Entries of the whole blocks of ``identities[start:limit]`` that follow ``parent`` without a gap."""
        found: list[Entry] = []
        for position in range(start, limit - size + 1, size):
            name = self.names.extend(parent, identities[position : position + size])
            entry = None if name is None else self.store.get(name)
            if entry is None:
                break
            found.append(entry)
            parent = entry.key
        return found

    def save(self, name: bytes, parent: bytes, block: int) -> None:
        """Device block ``block`` will be overwritten: keep it, if it is not here already."""
        known = self.store.get(name)
        if known is not None:
            self.store.touch(known)
            return
        if block in self._loads or block in self._saves:
            self.flush()
        entry = self.store.put(name, parent, self.page_bytes)
        if entry is None and self._loads:  # only what is being read fills it
            self.flush()
            entry = self.store.put(name, parent, self.page_bytes)
        if entry is not None:
            entry.block = block
            self._saves[block] = entry

    def load(self, entry: Entry, block: int) -> None:
        """Fill device block ``block``, at the next :meth:`flush`."""
        if entry.block >= 0 or block in self._loads:
            self.flush()
        self.store.pin(entry)
        self._loads[block] = entry
        self.counters.hit_age_seconds += time.monotonic() - entry.made

    def adopt(self, name: bytes, parent: bytes, payload: memoryview) -> Entry | None:
        """Take in a block that came from a lower tier; ``None`` if there is no room or it is no block of this pool."""
        known = self.store.get(name)
        if known is not None or payload.nbytes != self.page_bytes:
            return known
        entry = self.store.put(name, parent, self.page_bytes)
        if entry is not None:
            offset, _ = self.store.arena.place(entry.handles[0])
            self._transfer.write(offset, payload)
        return entry

    def keep(self, name: bytes, payload: bytes) -> bool:
        """Keep an object of any size, of another kind than blocks; whether there was room."""
        known = self.store.get(name)
        if known is not None:
            self.store.touch(known)
            return True
        entry = self.store.put(name, None, len(payload))
        if entry is None:
            return False
        view = memoryview(payload)
        for offset, start, size in self._parts(entry):
            self._transfer.write(offset, view[start : start + size])
        return True

    def read(self, name: bytes) -> bytes | None:
        """What :meth:`keep` kept, if it is still here."""
        entry = self.store.get(name)
        if entry is None:
            return None
        self.store.touch(entry)
        return b"".join(self._transfer.read(offset, size) for offset, _, size in self._parts(entry))

    def export(self, blocks: Sequence[int]) -> Exported:
        """Copies of device blocks for a lower tier."""
        self.flush()
        return self._transfer.export(blocks)

    def used(self, entries: Sequence[Entry]) -> None:
        """A chain was asked for, in order from its root: its end is the older part."""
        for entry in reversed(entries):
            self.store.touch(entry)

    def flush(self) -> None:
        """Do what was asked for."""
        if not self._saves and not self._loads:
            return
        start = self._clock()
        saves = [(block, self._page(entry)) for block, entry in self._saves.items()]
        loads = [(self._page(entry), block) for block, entry in self._loads.items()]
        self._transfer.exchange(saves, loads)
        for entry in self._saves.values():
            entry.block = -1
        for entry in self._loads.values():
            self.store.unpin(entry)
        self._saves.clear()
        self._loads.clear()
        self.counters.saves += len(saves)
        self.counters.loads += len(loads)
        self.counters.flushes += 1
        self.counters.seconds += self._clock() - start

    def check_integrity(self) -> None:
        """Raise :class:`RuntimeError` if index, arena and pending copies disagree."""
        self.store.check()
        pending = {id(e) for e in self._saves.values()}
        for block, entry in [*self._saves.items(), *self._loads.items()]:
            if self.store.get(entry.key) is not entry or (id(entry) in pending and entry.block != block):
                raise RuntimeError(f"host tier: a copy of block {block} is pending for an entry that is gone")

    def _parts(self, entry: Entry) -> Iterator[tuple[int, int, int]]:
        """(offset in the arena, offset in the object, bytes) of each chunk."""
        start = 0
        for handle in entry.handles:
            offset, size = self.store.arena.place(handle)
            size = min(size, entry.length - start)
            yield offset, start, size
            start += size

    def _page(self, entry: Entry) -> int:
        offset, _ = self.store.arena.place(entry.handles[0])
        return offset // self.page_bytes

    def _left(self, entry: Entry) -> None:
        if entry.block >= 0:
            del self._saves[entry.block]
            entry.block = -1
