"""The twin's three policies behind one interface; each decides as its counterpart in ``native/`` does."""

from __future__ import annotations

from typing import Protocol, Self

from autoglm.cache.local.config import Policy
from autoglm.cache.local.nodes import Node, NodeList
from autoglm.cache.local.segments import Segments
from autoglm.cache.local.shadow import Shadows
from autoglm.cache.local.sketch import Sketch


class PolicyState(Protocol):
    """Order of the entries; the cache holds the lock and tells of every change."""

    def count(self, mixed: int) -> None:
        """A use of a key that is in the cache, or comes into it."""

    def insert(self, node: Node) -> None:
        """A new entry."""

    def touch(self, node: Node) -> None:
        """An entry was hit or replaced."""

    def remove(self, node: Node) -> None:
        """An entry left."""

    def victim(self, keep: Node | None) -> Node | None:
        """Which entry goes next; not ``keep`` while there is another, where that matters."""

    def settle(self) -> None:
        """An insertion needed no eviction."""

    def set_room(self, room: int) -> None:
        """So many entries fit."""

    def order(self) -> list[Node]:
        """From the one that would leave first."""

    def resized(self, capacity: int) -> Self:
        """A new state of that size with the same entries in the same order."""

    def sizes(self) -> tuple[int, int, int, int]:
        """Window, probation, protected, and the window's target."""


class Lru:
    """Least recently used: a window and nothing else."""

    __slots__ = ("_segments",)

    def __init__(self, segments: Segments | None = None) -> None:
        self._segments = segments or Segments(None)

    def count(self, mixed: int) -> None:
        """Nothing to learn."""

    def insert(self, node: Node) -> None:
        self._segments.window.push(node)

    def touch(self, node: Node) -> None:
        self._segments.touch(node)

    def remove(self, node: Node) -> None:
        if node.home is not None:
            node.home.detach(node)

    def victim(self, keep: Node | None) -> Node | None:  # noqa: ARG002
        return self._segments.victim()

    def settle(self) -> None:
        """Nothing to move."""

    def set_room(self, room: int) -> None:
        """The window takes all there is."""

    def order(self) -> list[Node]:
        return self._segments.order()

    def resized(self, capacity: int) -> Self:  # noqa: ARG002
        return self._moved(type(self)())

    def _moved(self, fresh: Self) -> Self:
        parts = [(node, self._segments.part(node)) for node in self.order()]
        for node, part in parts:
            self.remove(node)
            fresh._segments.adopt(node, part)
        return fresh

    def sizes(self) -> tuple[int, int, int, int]:
        s = self._segments
        return s.window.length, s.probation.length, s.protected.length, s.window_target


class Adaptive(Lru):
    """Window, segmented LRU and sketch, with the window's share chosen by the shadows."""

    __slots__ = ("_room", "_shadows", "_sketch")

    def __init__(self, capacity: int) -> None:
        self._sketch = Sketch(capacity)
        super().__init__(Segments(self._sketch))
        self._shadows = Shadows(capacity, self._sketch)
        self._room = capacity
        self._segments.retarget(capacity, self._shadows.percent)

    def count(self, mixed: int) -> None:
        shadows = self._shadows
        if shadows.sampled(mixed):
            self._sketch.count(mixed, shadows.stride if shadows.whole_window else 1)
            if shadows.access(mixed):
                self._segments.retarget(self._room, shadows.percent)
        elif not shadows.whole_window:
            self._sketch.count(mixed)

    def settle(self) -> None:
        self._segments.spill(self._segments.window_target)

    def set_room(self, room: int) -> None:
        self._room = room
        self._shadows.set_room(room)
        self._segments.retarget(room, self._shadows.percent)

    def resized(self, capacity: int) -> Self:
        fresh = type(self)(capacity)
        fresh._shadows.chosen = self._shadows.chosen
        fresh._segments.retarget(capacity, fresh._shadows.percent)
        return self._moved(fresh)


class Lfu:
    """Least frequently used: buckets of equal use counts in ascending order; see ``native/lfu.h``."""

    __slots__ = ("_first",)

    def __init__(self) -> None:
        self._first: NodeList | None = None

    def count(self, mixed: int) -> None:
        """Uses are counted by the buckets."""

    def insert(self, node: Node) -> None:
        first = self._first
        if first is None or first.uses != 1:
            first = self._bucket_after(None, 1)
        first.push(node)

    def touch(self, node: Node) -> None:
        bucket = node.home
        if bucket is None:
            return
        after, uses = bucket.after, bucket.uses + 1
        there = after is not None and after.uses == uses
        if not there and bucket.length == 1:
            bucket.uses = uses
            return
        bucket.detach(node)
        (after if there and after is not None else self._bucket_after(bucket, uses)).push(node)
        self._drop_if_empty(bucket)

    def remove(self, node: Node) -> None:
        bucket = node.home
        if bucket is not None:
            bucket.detach(node)
            self._drop_if_empty(bucket)

    def victim(self, keep: Node | None) -> Node | None:
        bucket = self._first
        if bucket is None or bucket.tail is not keep or keep is None:
            return bucket.tail if bucket is not None else None
        if keep.prev is not None:
            return keep.prev
        return bucket.after.tail if bucket.after is not None else keep

    def settle(self) -> None:
        """Nothing to move."""

    def set_room(self, room: int) -> None:
        """Buckets have no size."""

    def order(self) -> list[Node]:
        nodes: list[Node] = []
        bucket = self._first
        while bucket is not None:
            nodes.extend(bucket.from_tail())
            bucket = bucket.after
        return nodes

    def resized(self, capacity: int) -> Self:  # noqa: ARG002
        return self

    def sizes(self) -> tuple[int, int, int, int]:
        return 0, 0, 0, (1 << 32) - 1

    def _bucket_after(self, before: NodeList | None, uses: int) -> NodeList:
        bucket = NodeList(uses)
        bucket.before = before
        bucket.after = self._first if before is None else before.after
        if before is None:
            self._first = bucket
        else:
            before.after = bucket
        if bucket.after is not None:
            bucket.after.before = bucket
        return bucket

    def _drop_if_empty(self, bucket: NodeList) -> None:
        if bucket.head is not None:
            return
        if bucket.before is not None:
            bucket.before.after = bucket.after
        else:
            self._first = bucket.after
        if bucket.after is not None:
            bucket.after.before = bucket.before


def make(policy: Policy, capacity: int) -> PolicyState:
    """The state of an empty cache."""
    if policy is Policy.LRU:
        return Lru()
    return Lfu() if policy is Policy.LFU else Adaptive(capacity)
