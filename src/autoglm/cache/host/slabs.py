"""One arena of equal pages, cut by halves into size classes, with a mover that makes room by relocating chunks.

Class 0 is a whole page, class ``k`` a page halved ``k`` times. Chunks are addressed by handles, so the mover may put
them elsewhere at any time. As every class divides the page, live chunks can always be packed without a hole: an
allocation fails only when fewer bytes are free than it asks for. That is what zero fragmentation means here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

Move = Callable[[int, int, int], None]
"""``move(source offset, target offset, bytes)`` copies inside the arena's memory."""


@dataclass(slots=True)
class _Chunk:
    offset: int
    level: int


class SlabArena:
    """Which bytes of the arena are whose. Holds no memory itself. Not thread-safe: one owner.

    Args:
        pages: number of pages. page_bytes: size of class 0; halved as often as it divides, down to ``smallest``.
        move: called for every chunk the mover relocates; target and source never overlap.
    """

    def __init__(self, pages: int, page_bytes: int, move: Move, *, smallest: int = 1024) -> None:
        self.page_bytes = page_bytes
        self.total_bytes = pages * page_bytes
        levels = 0
        while page_bytes % (2 << levels) == 0 and page_bytes >> (levels + 1) >= smallest:
            levels += 1
        self.sizes = [page_bytes >> level for level in range(levels + 1)]
        self.free_bytes = self.total_bytes
        self.moved_bytes = 0
        self._move = move
        self._free: list[dict[int, None]] = [{} for _ in self.sizes]
        self._free[0] = dict.fromkeys(range(0, self.total_bytes, page_bytes))
        self._level_at: dict[int, int] = dict.fromkeys(self._free[0], 0)  # of free chunks, by offset
        self._live: dict[int, int] = {}  # offset to handle
        self._chunks: dict[int, _Chunk] = {}
        self._next = 0

    def rounded(self, nbytes: int) -> int:
        """Bytes an object of ``nbytes`` takes: the next multiple of the smallest class."""
        unit = self.sizes[-1]
        return -(-nbytes // unit) * unit

    def allocate(self, nbytes: int) -> list[int] | None:
        """Handles of chunks that together hold ``nbytes``, largest first; ``None`` only if as much is not free."""
        need = self.rounded(nbytes)
        if need > self.free_bytes:
            return None
        handles: list[int] = []
        for level, size in enumerate(self.sizes):
            while need >= size:
                handles.append(self._take(level))
                need -= size
        return handles

    def release(self, handles: list[int]) -> None:
        """Give chunks back; halves that are free again join."""
        for handle in handles:
            chunk = self._chunks.pop(handle)
            del self._live[chunk.offset]
            self.free_bytes += self.sizes[chunk.level]
            self._put_free(chunk.offset, chunk.level)

    def place(self, handle: int) -> tuple[int, int]:
        """Where a chunk is now: offset and size in bytes. Valid until the next :meth:`allocate`."""
        chunk = self._chunks[handle]
        return chunk.offset, self.sizes[chunk.level]

    def check(self) -> None:
        """Raise :class:`RuntimeError` unless free and live chunks tile the arena exactly."""
        tiles = [(offset, self.sizes[level]) for offset, level in self._level_at.items()]
        free = sum(size for _, size in tiles)
        tiles += [(c.offset, self.sizes[c.level]) for c in self._chunks.values()]
        position = 0
        for offset, size in sorted(tiles):
            if offset != position:
                raise RuntimeError(f"slab arena: a hole or an overlap at byte {position}, next chunk at {offset}")
            position += size
        listed = {o: level for level, offsets in enumerate(self._free) for o in offsets}
        if position != self.total_bytes or free != self.free_bytes or listed != self._level_at:
            raise RuntimeError(f"slab arena counts {self.free_bytes} free bytes of {self.total_bytes}, has {free}")
        if {c.offset: h for h, c in self._chunks.items()} != self._live:
            raise RuntimeError("slab arena: handles and live chunks disagree")

    def _take(self, level: int) -> int:
        offset = self._carve(level)
        handle = self._next
        self._next += 1
        self._chunks[handle] = _Chunk(offset, level)
        self._live[offset] = handle
        self.free_bytes -= self.sizes[level]
        return handle

    def _carve(self, level: int) -> int:
        """A free chunk of the class, out of the smallest larger one, else by moving others away."""
        for source in range(level, -1, -1):
            if self._free[source]:
                offset, _ = self._free[source].popitem()
                del self._level_at[offset]
                for half in range(source + 1, level + 1):
                    self._set_free(offset + self.sizes[half], half)
                return offset
        return self._vacate(level)

    def _vacate(self, level: int) -> int:
        """Empty the fullest-of-holes region of the class's size; its live chunks go to holes elsewhere.

        They fit: as many bytes are free in all as the region has, so outside it at least as many as live inside.
        """
        size = self.sizes[level]
        holes: dict[int, int] = defaultdict(int)
        for below in range(level + 1, len(self.sizes)):
            for offset in self._free[below]:
                holes[offset - offset % self.page_bytes % size] += self.sizes[below]
        region = max(holes, key=holes.__getitem__)
        live: list[int] = []
        position = region
        while position < region + size:
            if position in self._live:
                live.append(self._live[position])
                position += self.sizes[self._chunks[live[-1]].level]
            else:
                hole = self._level_at.pop(position)  # out of the lists, so that nothing moves into the region
                del self._free[hole][position]
                position += self.sizes[hole]
        for handle in live:
            chunk = self._chunks[handle]
            target = self._carve(chunk.level)
            nbytes = self.sizes[chunk.level]
            self._move(chunk.offset, target, nbytes)
            self.moved_bytes += nbytes
            del self._live[chunk.offset]
            chunk.offset = target
            self._live[target] = handle
        return region

    def _set_free(self, offset: int, level: int) -> None:
        self._free[level][offset] = None
        self._level_at[offset] = level

    def _put_free(self, offset: int, level: int) -> None:
        while level:
            size = self.sizes[level]
            inside = offset % self.page_bytes
            buddy = offset - inside + (inside // size ^ 1) * size
            if self._level_at.get(buddy) != level:
                break
            del self._free[level][buddy], self._level_at[buddy]
            offset = min(offset, buddy)
            level -= 1
        self._set_free(offset, level)
