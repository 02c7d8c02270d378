"""The prefix index: a tree of KV blocks, keyed by the identities of the tokens in them.

A node's path from its root is the whole chain of identities before it, and keys are compared in full, so a hit can
never be another prompt's or another image's state. The last block of a prompt may be indexed before it is full, and
a look-up may end inside a block: reuse is exact to the token.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

Key = tuple[int, ...]


@dataclass(slots=True, eq=False)
class Node:
    """One indexed block. Roots (one per salt) have ``block`` -1 and no parent.

    ``name`` is what the chain up to here is called in lower tiers; ``None``: it never goes there. ``made``: when the
    block was indexed, on the monotonic clock.
    """

    key: Key
    block: int
    parent: Node | None
    name: bytes | None = None
    children: dict[Key, Node] = field(default_factory=dict)
    made: float = 0.0


@dataclass(frozen=True, slots=True)
class Match:
    """``nodes`` are whole blocks; ``partial`` is a further block of which the first ``partial_tokens`` match."""

    nodes: list[Node]
    partial: Node | None
    partial_tokens: int


class PrefixIndex:
    """Which block holds which chain. Knows nothing of reference counts (see :class:`~autoglm.cache.kv.KVCache`)."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._roots: dict[str, Node] = {}
        self._nodes: dict[int, Node] = {}

    def __contains__(self, block: int) -> bool:
        return block in self._nodes

    def holds(self, node: Node) -> bool:
        """Whether ``node`` itself is still indexed (its block may have passed on to another chain)."""
        return self._nodes.get(node.block) is node

    def __len__(self) -> int:
        return len(self._nodes)

    def root(self, salt: str) -> Node:
        """The root of a salt's tree; created on first use, dropped when its last block goes."""
        return self._roots.setdefault(salt, Node((), -1, None))

    def find_root(self, salt: str) -> Node | None:
        """The root of a salt's tree, if there is one."""
        return self._roots.get(salt)

    def match(self, salt: str, identities: Sequence[int], limit: int) -> Match:
        """The longest indexed prefix of ``identities[:limit]``."""
        node = self._roots.get(salt)
        nodes: list[Node] = []
        position = 0
        while node is not None and position + self._block_size <= limit:
            key = tuple(identities[position : position + self._block_size])
            child = node.children.get(key)
            if child is None:
                break
            nodes.append(child)
            node = child
            position += self._block_size
        if node is None or self._block_size == 1:
            return Match(nodes, None, 0)
        rest = identities[position : min(limit, position + self._block_size)]
        best, length = None, 0
        for key, child in node.children.items():
            common = _common(key, rest)
            if common > length:
                best, length = child, common
        return Match(nodes, best, length)

    def insert(self, parent: Node, key: Key, block: int, name: bytes | None = None) -> Node:
        """Index ``block`` under ``parent``; if that chain is indexed already, that node (with its own block)."""
        existing = parent.children.get(key)
        if existing is not None:
            return existing
        node = Node(key, block, parent, name, made=time.monotonic())
        parent.children[key] = node
        self._nodes[block] = node
        return node

    def remove(self, block: int) -> list[Node]:
        """Forget a block and all that hangs below it (unreachable now); its node first, then those below."""
        node = self._nodes.pop(block)
        parent = node.parent
        if parent is not None:
            del parent.children[node.key]
            if parent.parent is None and not parent.children:
                self._roots = {s: r for s, r in self._roots.items() if r is not parent}
        gone = [node]
        for above in gone:
            for below in above.children.values():
                del self._nodes[below.block]
                gone.append(below)
            above.children.clear()
        return gone

    def check(self) -> None:
        """Raise :class:`RuntimeError` unless the tree and the block table agree."""
        seen: dict[int, Node] = {}
        stack = list(self._roots.values())
        while stack:
            node = stack.pop()
            for key, child in node.children.items():
                if child.parent is not node or child.key != key or child.block in seen:
                    raise RuntimeError(f"prefix index broken at block {child.block}")
                seen[child.block] = child
                stack.append(child)
        if seen != self._nodes:
            raise RuntimeError(f"prefix index lists {len(self._nodes)} blocks, its tree has {len(seen)}")


def _common(key: Key, rest: Sequence[int]) -> int:
    count = 0
    for a, b in zip(key, rest, strict=False):
        if a != b:
            break
        count += 1
    return count
