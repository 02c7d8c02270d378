"""The twin's shadows: caches without values that try every window size on a sample; see ``native/shadow.h``."""

from __future__ import annotations

from autoglm.cache.local.nodes import Node
from autoglm.cache.local.segments import Segments
from autoglm.cache.local.sketch import Sketch, remix

PERCENT = (1, 15, 40, 100)
_WHOLE_WINDOW = 3
_GHOSTS_MAX = 60000
_SHIFT_MIN = 4
_EPOCH_MIN = 64
_MARGIN = 128


class Shadow:
    """One window size on trial."""

    __slots__ = ("_ghosts", "score", "segments")

    def __init__(self, sketch: Sketch) -> None:
        self.segments = Segments(sketch)
        self.score = 0
        self._ghosts: dict[int, Node] = {}

    def access(self, mixed: int, room: int) -> None:
        """A use of a sampled key."""
        ghost = self._ghosts.get(mixed)
        if ghost is not None:
            self.score += 1
            self.segments.touch(ghost)
            return
        ghost = self._ghosts[mixed] = Node(mixed)
        self.segments.window.push(ghost)
        if len(self._ghosts) <= room:
            self.segments.spill(self.segments.window_target)
        while len(self._ghosts) > room:
            victim = self.segments.victim()
            if victim is None or victim.home is None:
                raise RuntimeError("a shadow has entries but no victim")
            victim.home.detach(victim)
            del self._ghosts[victim.mixed]


class Shadows:
    """All window sizes, and which one is in use."""

    __slots__ = ("_epoch", "_room", "_samples", "_shadows", "_shift", "_total", "chosen")

    def __init__(self, entries: int, sketch: Sketch) -> None:
        self._shift = _SHIFT_MIN
        while entries >> self._shift > _GHOSTS_MAX:
            self._shift += 1
        self._shadows = [Shadow(sketch) for _ in PERCENT]
        self.chosen = _WHOLE_WINDOW
        self._samples = self._total = 0
        self.set_room(entries)
        self._epoch = max(self._room, _EPOCH_MIN)

    @property
    def percent(self) -> int:
        """The window size in use."""
        return PERCENT[self.chosen]

    @property
    def whole_window(self) -> bool:
        """Plain LRU is in use, whose evictions compare no counts."""
        return self.chosen == _WHOLE_WINDOW

    @property
    def stride(self) -> int:
        """One key in so many is sampled."""
        return 1 << self._shift

    def sampled(self, mixed: int) -> bool:
        """Whether the shadows are told of this key."""
        return not remix(mixed, 0xC2B2AE35) >> (32 - self._shift)

    def set_room(self, room: int) -> None:
        """Another number of entries fits into the cache."""
        self._room = max(room >> self._shift, 1)
        for shadow, percent in zip(self._shadows, PERCENT, strict=True):
            shadow.segments.retarget(self._room, percent)

    def access(self, mixed: int) -> bool:
        """A use of a sampled key; true if another window size was chosen."""
        for shadow in self._shadows:
            shadow.access(mixed, self._room)
        self._total += 1
        self._samples += 1
        return self._samples >= self._epoch and self._decide()

    def _decide(self) -> bool:
        scores = [shadow.score for shadow in self._shadows]
        best = scores.index(max(scores))
        change = scores[best] > scores[self.chosen] + self._total // _MARGIN
        if change:
            self.chosen = best
        for shadow in self._shadows:
            shadow.score //= 2
        self._total //= 2
        self._samples = 0
        return change
