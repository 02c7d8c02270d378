"""What the twin links: nodes, and lists of them."""

from __future__ import annotations

from collections.abc import Iterator


class Node:
    """An entry, or in a shadow just a key.

    Attributes:
        mixed: 32 bits of the key's hash; ``hashed``: all of it.
        written: microseconds since the cache's epoch; ``ttl``: milliseconds.
        home: the list it is in, and where in it.
        chain: the next node whose key has the same hash.
    """

    __slots__ = ("chain", "hashed", "home", "key", "mixed", "next", "prev", "slot", "ttl", "value", "weight", "written")

    def __init__(self, mixed: int) -> None:
        self.mixed = mixed
        self.key: object = None
        self.value: object = None
        self.hashed = self.written = self.ttl = self.weight = self.slot = 0
        self.chain: Node | None = None
        self.prev: Node | None = None
        self.next: Node | None = None
        self.home: NodeList | None = None


class NodeList:
    """Doubly linked; the head is the most recently pushed. ``uses`` is for the LFU policy's buckets."""

    __slots__ = ("after", "before", "head", "length", "tail", "uses")

    def __init__(self, uses: int = 0) -> None:
        self.head: Node | None = None
        self.tail: Node | None = None
        self.length = 0
        self.uses = uses
        self.before: NodeList | None = None
        self.after: NodeList | None = None

    def push(self, node: Node) -> None:
        """Put a node that is in no list at the head."""
        node.home = self
        node.prev = None
        node.next = self.head
        if self.head is not None:
            self.head.prev = node
        else:
            self.tail = node
        self.head = node
        self.length += 1

    def detach(self, node: Node) -> None:
        """Take out a node that is in this list."""
        if node.prev is not None:
            node.prev.next = node.next
        else:
            self.head = node.next
        if node.next is not None:
            node.next.prev = node.prev
        else:
            self.tail = node.prev
        node.home = node.prev = node.next = None
        self.length -= 1

    def from_tail(self) -> Iterator[Node]:
        """Oldest first."""
        node = self.tail
        while node is not None:
            yield node
            node = node.prev


def move(node: Node, to: NodeList) -> None:
    """Make the node the head of ``to``, from whatever list it is in."""
    if to.head is not node:
        if node.home is not None:
            node.home.detach(node)
        to.push(node)
