"""One prefix, computed a little at a time; whenever it is interrupted, what it has stays findable."""

from __future__ import annotations

from collections.abc import Callable

from autoglm.cache import KVCache, PartialCopy, VisualCache
from autoglm.engine.idle.dialogues import Dialogue
from autoglm.engine.scheduler import Chunk
from autoglm.engine.sequence import Sequence
from autoglm.model.context import ImageFeatures


class Job:
    """Tokens ``[0, goal)`` of ``sequence``, for ``dialogue``.

    It holds blocks and features only between :meth:`open` and :meth:`close`. Images are not encoded: it ends before the
    first token that needs one whose features are not there.

    Attributes:
        known: tokens whose KV was there when it was first opened. end: tokens that have theirs now.
    """

    def __init__(
        self,
        kv: KVCache,
        visual: VisualCache[ImageFeatures],
        copy: Callable[[PartialCopy], None],
        sequence: Sequence,
        goal: int,
        dialogue: Dialogue,
        most_blocks: int,
    ) -> None:
        self.sequence = sequence
        self.dialogue = dialogue
        self.goal = goal
        self.known = -1
        self.end = 0
        self._kv = kv
        self._visual = visual
        self._copy = copy
        self._most = most_blocks

    @property
    def is_open(self) -> bool:
        return self.sequence.table is not None

    def open(self) -> bool:
        """Start or go on behind what is there; whether anything is left to do that is worth it."""
        sequence = self.sequence
        table, cached, copy = self._kv.open(sequence.salt, sequence.identities, self.goal, restore=False)
        if copy is not None:
            self._copy(copy)
        sequence.table, sequence.computed = table, cached
        if self.known < 0:
            self.known = cached
        self.known = min(self.known, cached)  # less, if it was evicted meanwhile
        self.end = cached
        # A beginning that is gone would have to be computed whole: that is no small thing any more.
        return 0 < self.goal - cached <= self._most * self._kv.block_size

    def next_chunk(self, tokens: int) -> Chunk | None:
        """At most so many tokens; ``None``: it can go no further. To be run, then told by :meth:`computed`."""
        sequence = self.sequence
        start = sequence.computed
        end = min(start + tokens, self.goal)
        for first, images in sequence.image_groups(start, end):
            if not all(self._pin(index) for index in images):
                end = max(start, first)
                break
        if sequence.table is None or end <= start:
            return None
        if not self._kv.grow_ahead(sequence.table, end, self._own, self._most):
            return None
        return Chunk(sequence, start, end - start)

    def computed(self, chunk: Chunk) -> None:
        """The chunk ran."""
        sequence = self.sequence
        assert sequence.table is not None
        sequence.computed = self.end = chunk.end
        self._kv.commit(sequence.table, sequence.identities, chunk.end)

    def close(self) -> None:
        """Give everything back; what was computed is found by whoever asks for it, and evicted before all else."""
        sequence = self.sequence
        if sequence.table is not None:
            self._kv.release(sequence.table, sequence.identities, sequence.computed, own=self._own)
        sequence.table, sequence.slots, sequence.row_state, sequence.computed = None, None, None, 0
        for index in list(sequence.features):
            del sequence.features[index]
            self._visual.unpin((sequence.salt, sequence.images[index].image.digest))

    @property
    def _own(self) -> int:
        """Whole blocks at the beginning that others had computed."""
        return self.known // self._kv.block_size

    def _pin(self, index: int) -> bool:
        if index in self.sequence.features:
            return True
        key = (self.sequence.salt, self.sequence.images[index].image.digest)
        features = self._visual.pin(key) if key in self._visual else None
        if features is None:
            return False
        self.sequence.features[index] = features
        return True
