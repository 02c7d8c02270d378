"""What the host arena holds: entries by content key, evicted leaf first, least recently used first.

An entry may name a parent (the block before it in its chain). While a child is here its parent is no victim: a chain
is eaten from its end, because a block without the blocks before it is of no use.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from autoglm.cache.host.slabs import SlabArena


@dataclass(slots=True, eq=False)
class Entry:
    """One object in the arena.

    Attributes:
        length: bytes of the object. nbytes: bytes it takes.
        tick: last use. pins: transfers that read it now. shields: waiting prompts and sessions that want it kept.
        block: the device block its bytes still have to come from; -1 once they are here.
        made: when it came, on the monotonic clock.
    """

    key: bytes
    parent: bytes | None
    handles: list[int]
    length: int
    nbytes: int
    tick: int
    pins: int = 0
    shields: int = 0
    block: int = -1
    queued: bool = field(default=False, repr=False)
    made: float = 0.0


class HostStore:
    """Index of a :class:`SlabArena`. Not thread-safe: one owner.

    Args:
        on_evict: called with each entry that leaves, before its bytes are given to another.
    """

    def __init__(self, arena: SlabArena, on_evict: Callable[[Entry], None]) -> None:
        self.arena = arena
        self.evictions: dict[str, int] = {"capacity": 0, "shielded": 0, "removed": 0}
        self.evicted_age_seconds = 0.0
        self._on_evict = on_evict
        self._entries: dict[bytes, Entry] = {}
        self._children: dict[bytes, int] = {}
        self._leaves: list[tuple[int, bytes]] = []
        self._shielded: OrderedDict[bytes, None] = OrderedDict()
        self._tick = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: bytes) -> bool:
        return key in self._entries

    @property
    def size(self) -> int:
        """Bytes taken, rounding included."""
        return self.arena.total_bytes - self.arena.free_bytes

    def get(self, key: bytes) -> Entry | None:
        """The entry, its recency untouched."""
        return self._entries.get(key)

    def touch(self, entry: Entry) -> None:
        """It was used now."""
        self._tick += 1
        entry.tick = self._tick

    def put(self, key: bytes, parent: bytes | None, nbytes: int) -> Entry | None:
        """Room for a new entry, at the cost of others; ``None`` if pinned ones leave too little."""
        handles = self.arena.allocate(nbytes)
        while handles is None:
            victim = self._victim() if nbytes <= self.arena.total_bytes else None
            if victim is None:
                return None
            self._drop(victim, "shielded" if victim.shields else "capacity")
            handles = self.arena.allocate(nbytes)
        self._tick += 1
        entry = Entry(key, parent, handles, nbytes, self.arena.rounded(nbytes), self._tick, made=time.monotonic())
        self._entries[key] = entry
        if parent is not None:
            self._children[parent] = self._children.get(parent, 0) + 1
        self._offer(entry)
        if len(self._leaves) > 2 * len(self._entries) + 64:
            self._requeue()
        return entry

    def remove(self, key: bytes) -> None:
        """Forget an entry, whatever hangs below it."""
        entry = self._entries.get(key)
        if entry is not None:
            self._drop(entry, "removed")

    def pin(self, entry: Entry) -> None:
        """A transfer reads it: it stays until :meth:`unpin`."""
        entry.pins += 1

    def unpin(self, entry: Entry) -> None:
        """The transfer is done."""
        entry.pins -= 1
        self._offer(entry)

    def shield(self, entry: Entry) -> None:
        """Evict it only when nothing else is left; counted, see :meth:`unshield`."""
        entry.shields += 1
        self._shielded[entry.key] = None

    def unshield(self, entry: Entry) -> None:
        """One reason less to keep it. An entry that was evicted meanwhile is no mistake."""
        entry.shields -= 1
        if entry.shields == 0 and self._entries.get(entry.key) is entry:
            del self._shielded[entry.key]
            self._offer(entry)

    def check(self) -> None:
        """Raise :class:`RuntimeError` if entries, arena or counts disagree."""
        self.arena.check()
        held = sum(e.nbytes for e in self._entries.values())
        if held != self.size:
            raise RuntimeError(f"host store has {held} bytes in entries, its arena {self.size}")
        children: dict[bytes, int] = {}
        for key, entry in self._entries.items():
            if entry.key != key or entry.pins < 0 or (entry.shields > 0) != (key in self._shielded):
                raise RuntimeError(f"host store entry {key.hex()[:16]} is broken")
            if entry.parent is not None:
                children[entry.parent] = children.get(entry.parent, 0) + 1
        if children != self._children:
            raise RuntimeError("host store: child counts disagree")
        queued = {key for _, key in self._leaves}
        lost = [k for k, e in self._entries.items() if self._may_go(e) and not e.shields and k not in queued]
        if lost or len(self._shielded) > len(self._entries):
            raise RuntimeError(f"host store: {len(lost)} entries could never be evicted")

    def _may_go(self, entry: Entry) -> bool:
        return entry.pins == 0 and entry.key not in self._children

    def _offer(self, entry: Entry) -> None:
        """Queue it as a victim if it is one; each entry is queued once at most."""
        if not entry.queued and self._may_go(entry) and not entry.shields:
            entry.queued = True
            heappush(self._leaves, (entry.tick, entry.key))

    def _requeue(self) -> None:
        """Rid the queue of what was removed or queued twice."""
        self._leaves = []
        for entry in self._entries.values():
            entry.queued = False
            self._offer(entry)

    def _victim(self) -> Entry | None:
        while self._leaves:
            tick, key = heappop(self._leaves)
            entry = self._entries.get(key)
            if entry is None or not entry.queued:
                continue
            entry.queued = False
            if entry.tick == tick and self._may_go(entry) and not entry.shields:
                return entry
            self._offer(entry)  # used since: back at its present place, if it is still a victim
        for key in reversed(self._shielded):  # the latest shielded is the last to be needed
            entry = self._entries[key]
            if self._may_go(entry):
                return entry
        return None

    def _drop(self, entry: Entry, cause: str) -> None:
        self.evictions[cause] += 1
        self.evicted_age_seconds += time.monotonic() - entry.made
        self._on_evict(entry)
        del self._entries[entry.key]
        self._shielded.pop(entry.key, None)
        self.arena.release(entry.handles)
        if entry.parent is None:
            return
        left = self._children.pop(entry.parent) - 1
        if left:
            self._children[entry.parent] = left
        elif (parent := self._entries.get(entry.parent)) is not None:
            self._offer(parent)
