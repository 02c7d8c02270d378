"""The block pool: which KV blocks exist, who holds them, which may be taken next.

A block is in exactly one state: free (nothing in it), held (reference count > 0), or idle (count 0 but its content
is indexed and may be hit again; taken back least recently used first, shielded ones after all others).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable


class BlockPool:
    """Fixed number of blocks of ``block_size`` tokens.

    Not thread-safe: the engine's loop owns it. ``on_evict(block)`` is called when an idle block is taken back and
    must forget its content; it may free further blocks through :meth:`forget`.
    """

    def __init__(self, num_blocks: int, block_size: int, on_evict: Callable[[int], None]) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._on_evict = on_evict
        self._refs = [0] * num_blocks
        self._free = bytearray(b"\x01") * num_blocks
        self._num_free = num_blocks
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._shielded: OrderedDict[int, None] = OrderedDict()  # idle ones that somebody waits for
        self._shields = [0] * num_blocks
        self.shielded_evictions = 0

    @property
    def available(self) -> int:
        """Blocks that :meth:`take` can hand out."""
        return self._num_free + len(self._idle) + len(self._shielded)

    def take(self, count: int, after: int | None = None) -> list[int] | None:
        """Hold ``count`` blocks, or ``None`` (and nothing changed) if there are not as many.

        Prefers a run, behind block ``after`` if possible: contiguous KV is read without a gather.
        """
        if count > self.available:
            return None
        while self._num_free < count:
            if self._idle:
                block, _ = self._idle.popitem(last=False)
            else:
                block, _ = self._shielded.popitem()  # the latest shielded is the last to be needed
                self.shielded_evictions += 1
            self._on_evict(block)
            self._set_free(block)
        blocks = self._find(count, after)
        for block in blocks:
            self._free[block] = 0
            self._refs[block] = 1
        self._num_free -= count
        return blocks

    def hold(self, block: int) -> None:
        """One more reference to a held or idle block."""
        if self._refs[block] == 0:
            del (self._shielded if self._shields[block] else self._idle)[block]
        self._refs[block] += 1

    def drop(self, blocks: Iterable[int], indexed: Callable[[int], bool]) -> None:
        """Give references back; a block whose last one goes becomes idle if ``indexed``, else free."""
        for block in blocks:
            self._refs[block] -= 1
            if self._refs[block] == 0:
                if not indexed(block):
                    self._set_free(block)
                elif self._shields[block]:
                    self._shielded[block] = None  # taken from the other end than idle ones: the end of a chain first
                    self._shielded.move_to_end(block, last=False)
                else:
                    self._idle[block] = None

    def forget(self, block: int) -> None:
        """The block's content is no longer indexed: free it if it is idle."""
        for idle in (self._idle, self._shielded):
            if block in idle:
                del idle[block]
                self._set_free(block)

    def shield(self, block: int) -> None:
        """Take an indexed block back only when no other is left; counted, ends with the block's content."""
        self._shields[block] += 1
        if block in self._idle:
            del self._idle[block]
            self._shielded[block] = None

    def unshield(self, block: int) -> None:
        """One reason less; only while the block holds what it held when it was shielded."""
        self._shields[block] -= 1
        if self._shields[block] == 0 and block in self._shielded:
            del self._shielded[block]
            self._idle[block] = None

    def check(self) -> None:
        """Raise :class:`RuntimeError` unless every block is in exactly one state."""
        free = sum(self._free)
        held = sum(1 for r in self._refs if r > 0)
        idle = [*self._idle, *self._shielded]
        bad = any(r < 0 for r in self._refs) or any(self._refs[b] or self._free[b] for b in idle)
        bad = bad or any(self._shields[b] for b in self._idle) or any(self._shields[b] <= 0 for b in self._shielded)
        if bad or free != self._num_free or free + held + len(idle) != self.num_blocks:
            raise RuntimeError(
                f"block pool broken: {free} free (counted {self._num_free}), {held} held, "
                f"{len(idle)} idle of {self.num_blocks}"
            )

    def _set_free(self, block: int) -> None:
        self._free[block] = 1
        self._shields[block] = 0
        self._num_free += 1

    def _find(self, count: int, after: int | None) -> list[int]:
        run = b"\x01" * count
        if after is not None and self._free.startswith(run, after + 1):
            return list(range(after + 1, after + 1 + count))
        start = self._free.find(run)
        if start >= 0:
            return list(range(start, start + count))
        blocks: list[int] = []
        position = -1
        for _ in range(count):
            position = self._free.index(1, position + 1)
            blocks.append(position)
        return blocks
