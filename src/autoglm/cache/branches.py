"""Chains that dialogues left: what follows an image that the client dropped is the first to go.

A dialogue whose next request lacks an image of the one before goes on in another branch of the prefix tree; all that
hangs at the old one is then worth a retry at best. It is marked, not freed: if it is asked for again, it is as good as
any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from autoglm.cache.blocks import BlockPool, Worth
from autoglm.cache.prefix import Node, PrefixIndex


class Branches:
    """Knows where dialogues end now, so that what one of them drops and another still has stays.

    Not thread-safe: the engine's loop owns it, as the pool.

    Attributes:
        dropped_blocks: marked since start.
    """

    def __init__(self, index: PrefixIndex, pool: BlockPool) -> None:
        self._index = index
        self._pool = pool
        self._ends: Counter[Node] = Counter()
        self.dropped_blocks = 0

    def __len__(self) -> int:
        return len(self._ends)

    def end(self, leaf: Node) -> None:
        """A dialogue's newest request has its last whole block here; :meth:`leave` once for each call."""
        self._ends[leaf] += 1

    def leave(self, leaf: Node) -> None:
        """The dialogue went on, or is forgotten."""
        self._ends[leaf] -= 1
        if self._ends[leaf] <= 0:
            del self._ends[leaf]

    def drop(self, leaf: Node, salt: str, identities: Sequence[int]) -> Node | None:
        """The dialogue that ended at ``leaf`` goes on with ``identities``, without an image it had.

        Marks its old branch from the end up to the first block that something else needs: a block in use, another
        dialogue's end, or a continuation that is not dropped itself.

        Returns the last block of the old chain that the new one shares, or ``None``.
        """
        chain: list[Node] = []
        node: Node | None = leaf
        while node is not None and node.block >= 0:
            chain.append(node)
            node = node.parent
        kept = set(self._index.match(salt, identities, len(identities)).nodes)
        for node in [*_stubs(leaf, self._pool.block_size), *chain]:
            if not self._index.holds(node):
                continue
            if node in kept or self._needed(node):
                break
            self.dropped_blocks += self._pool.demote(node.block, Worth.DROPPED)
        return next((n for n in chain if n in kept), None)

    def _needed(self, node: Node) -> bool:
        return (
            self._pool.in_use(node.block)
            or node in self._ends
            or any(self._pool.worth(child.block) is Worth.KNOWN for child in node.children.values())
        )


def _stubs(leaf: Node, size: int) -> list[Node]:
    """The partly filled block behind a last whole one, if there is no doubt whose it is."""
    stubs = [child for child in leaf.children.values() if len(child.key) < size]
    return stubs if len(stubs) == len(leaf.children) == 1 else []
