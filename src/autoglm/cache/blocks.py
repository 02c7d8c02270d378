"""The block pool: which KV blocks exist, who holds them, which may be taken next.

A block is in exactly one state: free (nothing in it), held (reference count > 0), or idle (count 0 but its content
is indexed and may be hit again). Idle blocks are taken back by :class:`Worth`, within one least recently used first,
and shielded ones after all others.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from enum import IntEnum


class Worth(IntEnum):
    """How likely an idle block is to be hit again; the lowest is taken first.

    ``DROPPED``: the client took the image it depends on out of its dialogue. ``GUESSED``: computed ahead of a request
    that nobody has sent yet.
    """

    DROPPED = 0
    GUESSED = 1
    KNOWN = 2


class BlockPool:
    """Fixed number of blocks of ``block_size`` tokens.

    Not thread-safe: the engine's loop owns it. ``on_evict(block)`` is called when an idle block is taken back and
    must forget its content; it may free further blocks through :meth:`forget`.

    Attributes:
        evicted: idle blocks taken back, by worth. shielded_evictions: those of them that were shielded.
    """

    def __init__(self, num_blocks: int, block_size: int, on_evict: Callable[[int], None]) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._on_evict = on_evict
        self._refs = [0] * num_blocks
        self._free = bytearray(b"\x01") * num_blocks
        self._num_free = num_blocks
        self._idle: tuple[OrderedDict[int, None], ...] = tuple(OrderedDict() for _ in Worth)
        self._shielded: OrderedDict[int, None] = OrderedDict()  # idle ones that somebody waits for
        self._shields = [0] * num_blocks
        self._worth = bytearray([Worth.KNOWN]) * num_blocks
        self.evicted = dict.fromkeys(Worth, 0)
        self.shielded_evictions = 0

    @property
    def available(self) -> int:
        """Blocks that :meth:`take` can hand out."""
        return self._num_free + sum(map(len, self._idle)) + len(self._shielded)

    def idle(self, worth: Worth) -> int:
        """Idle blocks of this worth that no shield covers."""
        return len(self._idle[worth])

    def worth(self, block: int) -> Worth:
        """Of a block's content."""
        return Worth(self._worth[block])

    def in_use(self, block: int) -> bool:
        """Whether somebody holds the block."""
        return self._refs[block] > 0

    def take(self, count: int, after: int | None = None, *, ahead: bool = False) -> list[int] | None:
        """Hold ``count`` blocks, or ``None`` (and nothing changed) if there are not as many.

        Prefers a run, behind block ``after`` if possible: contiguous KV is read without a gather.

        Args:
            ahead: for a guess, which pushes out neither another guess nor what somebody waits for.
        """
        queues = tuple(q for worth, q in zip(Worth, self._idle, strict=True) if not ahead or worth != Worth.GUESSED)
        if count > (self._num_free + sum(map(len, queues)) if ahead else self.available):
            return None
        while self._num_free < count:
            queue = next((q for q in queues if q), None)
            if queue is not None:
                block, _ = queue.popitem(last=False)
            else:
                block, _ = self._shielded.popitem()  # the latest shielded is the last to be needed
                self.shielded_evictions += 1
            self._evict(block)
        blocks = self._find(count, after)
        for block in blocks:
            self._free[block] = 0
            self._refs[block] = 1
        self._num_free -= count
        return blocks

    def discard(self, worth: Worth, count: int) -> None:
        """Free the ``count`` oldest idle blocks of this worth (all, if there are fewer)."""
        queue = self._idle[worth]
        for _ in range(count):
            if not queue:
                return
            self._evict(queue.popitem(last=False)[0])

    def hold(self, block: int) -> None:
        """One more reference to a held or idle block; its content proves its worth."""
        if self._refs[block] == 0:
            del self._queue(block)[block]
        self._refs[block] += 1
        self._worth[block] = Worth.KNOWN

    def drop(self, blocks: Iterable[int], indexed: Callable[[int], bool], worth: Worth | None = None) -> None:
        """Give references back; a block whose last one goes becomes idle if ``indexed``, else free.

        Args:
            worth: of those that become idle; ``None``: as it stands.
        """
        for block in blocks:
            self._refs[block] -= 1
            if self._refs[block] == 0:
                if not indexed(block):
                    self._set_free(block)
                    continue
                if worth is not None:
                    self._worth[block] = worth
                self._queue(block)[block] = None
                if self._shields[block]:  # taken from the other end than idle ones: the end of a chain first
                    self._shielded.move_to_end(block, last=False)

    def demote(self, block: int, worth: Worth) -> bool:
        """The content of an idle block is worth no more than this; whether that is news."""
        if self._refs[block] or self._free[block] or worth >= self._worth[block]:
            return False
        del self._queue(block)[block]
        self._worth[block] = worth
        self._queue(block)[block] = None
        return True

    def forget(self, block: int) -> None:
        """The block's content is no longer indexed: free it if it is idle."""
        if self._refs[block] == 0 and not self._free[block]:
            del self._queue(block)[block]
            self._set_free(block)

    def shield(self, block: int) -> None:
        """Take an indexed block back only when no other is left; counted, ends with the block's content."""
        self._shields[block] += 1
        if self._shields[block] == 1 and self._refs[block] == 0:
            del self._idle[self._worth[block]][block]
            self._shielded[block] = None

    def unshield(self, block: int) -> None:
        """One reason less; only while the block holds what it held when it was shielded."""
        self._shields[block] -= 1
        if self._shields[block] == 0 and block in self._shielded:
            del self._shielded[block]
            self._queue(block)[block] = None

    def check(self) -> None:
        """Raise :class:`RuntimeError` unless every block is in exactly one state."""
        free = sum(self._free)
        held = sum(1 for r in self._refs if r > 0)
        idle = [block for queue in (*self._idle, self._shielded) for block in queue]
        bad = any(r < 0 for r in self._refs) or any(self._refs[b] or self._free[b] for b in idle)
        bad = bad or any(block not in self._queue(block) for block in idle)
        if bad or free != self._num_free or free + held + len(idle) != self.num_blocks:
            raise RuntimeError(
                f"block pool broken: {free} free (counted {self._num_free}), {held} held, "
                f"{len(idle)} idle of {self.num_blocks}"
            )

    def _queue(self, block: int) -> OrderedDict[int, None]:
        return self._shielded if self._shields[block] else self._idle[self._worth[block]]

    def _evict(self, block: int) -> None:
        self.evicted[Worth(self._worth[block])] += 1
        self._on_evict(block)
        self._set_free(block)

    def _set_free(self, block: int) -> None:
        self._free[block] = 1
        self._shields[block] = 0
        self._worth[block] = Worth.KNOWN
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
