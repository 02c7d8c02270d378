"""The twin's window, probation and protected lists; the same decisions as ``native/segments.h``."""

from __future__ import annotations

from autoglm.cache.local.nodes import Node, NodeList, move
from autoglm.cache.local.sketch import Sketch

_SPILL = 4


class Segments:
    """Three lists and the sizes of two of them. Without a sketch the window is all there is: plain LRU."""

    __slots__ = ("_protected_target", "_sketch", "probation", "protected", "window", "window_target")

    def __init__(self, sketch: Sketch | None) -> None:
        self.window = NodeList()
        self.probation = NodeList()
        self.protected = NodeList()
        self.window_target = (1 << 32) - 1
        self._protected_target = 0
        self._sketch = sketch

    def retarget(self, room: int, percent: int) -> None:
        """The window gets ``percent`` of ``room`` entries, at least one; protected at most four fifths of the rest."""
        self.window_target = max(room * percent // 100, 1)
        self._protected_target = max(room - self.window_target, 0) * 4 // 5

    def touch(self, node: Node) -> None:
        """A hit. While the window has not reached its size, what is hit in the main part moves into it."""
        if node.home is self.window or self.window.length < self.window_target:
            move(node, self.window)
        else:
            move(node, self.protected)
            if self.protected.length > self._protected_target and self.protected.tail is not None:
                move(self.protected.tail, self.probation)

    def spill(self, target: int) -> None:
        """Move what is over the window's size into probation, a few at a time."""
        moved = 0
        while moved < _SPILL and self.window.length > target and self.window.tail is not None:
            move(self.window.tail, self.probation)
            moved += 1

    def victim(self) -> Node | None:
        """Which entry goes. The window's oldest must be more frequent than the main part's to stay."""
        if self._sketch is not None:
            self.spill(self.window_target + 1)
        candidate = self.window.tail
        coldest = self.probation.tail or self.protected.tail
        if coldest is None or self._sketch is None:
            return candidate
        if candidate is None or self.window.length <= self.window_target:
            return coldest
        if self._sketch.frequency(candidate.mixed) > self._sketch.frequency(coldest.mixed):
            move(candidate, self.probation)
            return coldest
        return candidate

    def order(self) -> list[Node]:
        """From the one that would leave first."""
        return [node for part in (self.probation, self.protected, self.window) for node in part.from_tail()]

    def part(self, node: Node) -> int:
        """Number of the list a node is in, for :meth:`adopt`."""
        return 0 if node.home is self.window else 1 if node.home is self.probation else 2

    def adopt(self, node: Node, part: int) -> None:
        """Put a node that is in no list at the head of list ``part``."""
        (self.window, self.probation, self.protected)[part].push(node)
