"""Blocks that somebody is known to want: victims only when nothing else is left.

Waiting prompts shield what they will hit; sessions shield their chain for a hinted time (:mod:`autoglm.cache.hints`).
A shield is no reservation: under pressure the pool still takes all it needs, the latest shielded first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from autoglm.cache.blocks import BlockPool
from autoglm.cache.host.store import Entry
from autoglm.cache.host.tier import HostTier
from autoglm.cache.prefix import Node, PrefixIndex


@dataclass(slots=True, eq=False)
class Shield:
    """What one prompt or session shields now: whole blocks of the pool in chain order, and entries of the host tier."""

    salt: str
    identities: Sequence[int]
    limit: int
    nodes: list[Node] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)


class Shields:
    """Makes and drops shields. Not thread-safe: the engine's loop owns it, as the pool."""

    def __init__(self, index: PrefixIndex, pool: BlockPool, host: HostTier | None) -> None:
        self._index = index
        self._pool = pool
        self._host = host

    def of_prompt(self, salt: str, identities: Sequence[int], limit: int) -> Shield:
        """Shield the known prefix of ``identities[:limit]``; :meth:`renew` extends it."""
        shield = Shield(salt, identities, limit)
        self.renew(shield)
        name = None
        if self._host is not None:
            name = shield.nodes[-1].name if shield.nodes else self._host.names.root(salt)
        if self._host is not None and name is not None:
            size = self._pool.block_size
            for entry in self._host.match(name, identities, len(shield.nodes) * size, limit, size):
                self.add(shield, entry)
        return shield

    def of_chain(self, leaf: Node) -> Shield:
        """Shield an indexed block and all before it, wherever they are."""
        shield = Shield("", (), 0)
        node: Node | None = leaf
        while node is not None and node.block >= 0:
            if self._index.holds(node):
                shield.nodes.append(node)
            entry = self._host.store.get(node.name) if self._host is not None and node.name else None
            if entry is not None:
                self.add(shield, entry)
            node = node.parent
        shield.nodes.reverse()
        for node in shield.nodes:
            self._pool.shield(node.block)
        return shield

    def add(self, shield: Shield, entry: Entry) -> None:
        """One more entry of the host tier."""
        if self._host is not None:
            self._host.store.shield(entry)
            shield.entries.append(entry)

    def renew(self, shield: Shield) -> None:
        """Shield what was indexed behind the known prefix since; forget what was evicted all the same."""
        nodes, size = shield.nodes, self._pool.block_size
        while nodes and not self._index.holds(nodes[-1]):
            nodes.pop()
        node = nodes[-1] if nodes else self._index.find_root(shield.salt)
        position = len(nodes) * size
        while node is not None and position + size <= shield.limit:
            node = node.children.get(tuple(shield.identities[position : position + size]))
            if node is not None:
                self._pool.shield(node.block)
                nodes.append(node)
                position += size

    def drop(self, shield: Shield) -> None:
        """The reason is gone."""
        for node in shield.nodes:
            if self._index.holds(node):
                self._pool.unshield(node.block)
        if self._host is not None:
            for entry in shield.entries:
                self._host.store.unshield(entry)
        shield.nodes, shield.entries = [], []
