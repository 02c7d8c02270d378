"""KV blocks of sequences: the one owner of reference counts.

| question | answer |
|---|---|
| who owns blocks | :class:`KVCache`; a :class:`BlockTable` only lists what its sequence holds |
| who frees | :meth:`KVCache.release`, once per table; nobody else |
| who locks | nobody: the engine's loop is the only caller |
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from autoglm.cache.blocks import BlockPool, Worth
from autoglm.cache.branches import Branches
from autoglm.cache.host.tier import HostTier
from autoglm.cache.prefix import Node, PrefixIndex
from autoglm.cache.shields import Shields
from autoglm.cache.stats import Counters


@dataclass(slots=True, eq=False)
class BlockTable:
    """The blocks of one sequence, in order.

    Attributes:
        indexed: blocks whose chain is in the index (a prefix of ``blocks``); ``node`` is the last one's node.
        published: the node of a further block that was indexed before it was full.
        restored: tokens whose KV came back from the host tier.
        age: sum over the tokens found in the pool of the seconds since their block was indexed.
    """

    salt: str
    blocks: list[int] = field(default_factory=list)
    indexed: int = 0
    node: Node | None = None
    published: Node | None = None
    restored: int = 0
    age: float = 0.0

    @property
    def contiguous(self) -> bool:
        """Whether the blocks are one run of the pool."""
        blocks = self.blocks
        return not blocks or blocks == list(range(blocks[0], blocks[0] + len(blocks)))


@dataclass(frozen=True, slots=True)
class PartialCopy:
    """Copy the KV rows of the first ``tokens`` tokens of block ``source`` to block ``target``, before use."""

    source: int
    target: int
    tokens: int


class KVCache:
    """Blocks, reference counts and prefix reuse.

    Args:
        reuse: switch for prefix reuse; off, nothing is ever indexed.
        host: where blocks go that leave the pool; ``None``: nowhere.
        spare: blocks that a returning prompt leaves free for its first step, where it does not fit whole.
    """

    def __init__(
        self, num_blocks: int, block_size: int, *, reuse: bool = True, host: HostTier | None = None, spare: int = 1
    ) -> None:
        self.block_size = block_size
        self.reuse = reuse
        self.host = host if reuse else None
        self._spare = spare
        self.counters = Counters()
        self._index = PrefixIndex(block_size)
        self._pool = BlockPool(num_blocks, block_size, self._evicted)
        self._tables: set[int] = set()
        self.shields = Shields(self._index, self._pool, self.host)
        self.branches = Branches(self._index, self._pool)

    @property
    def num_blocks(self) -> int:
        return self._pool.num_blocks

    @property
    def available(self) -> int:
        """Blocks that could be handed out now."""
        return self._pool.available

    @property
    def indexed_blocks(self) -> int:
        return len(self._index)

    @property
    def shielded_evictions(self) -> int:
        """Blocks taken although somebody waited for them."""
        return self._pool.shielded_evictions

    def idle_blocks(self, worth: Worth) -> int:
        """Blocks that nobody holds or waits for, of content worth this much."""
        return self._pool.idle(worth)

    def evictions_of(self, worth: Worth) -> int:
        """Blocks taken back whose content was worth no more."""
        return self._pool.evicted[worth]

    def open(
        self, salt: str, identities: Sequence[int], limit: int, *, restore: bool = True
    ) -> tuple[BlockTable, int, PartialCopy | None]:
        """Start a table with the longest known prefix of ``identities[:limit]``.

        Args:
            restore: bring back what is in the host tier.

        Returns:
            the table, the number of tokens whose KV is there (after :meth:`flush`), and a copy the caller must do
            before the next call to this object, after :meth:`flush` (it makes the first, private block of the table
            out of a partly matching one).
        """
        table = BlockTable(salt)
        self._tables.add(id(table))
        if not self.reuse:
            return table, 0, None
        match = self._index.match(salt, identities, limit)
        for node in match.nodes:
            self._pool.hold(node.block)
            table.blocks.append(node.block)
        table.indexed = len(table.blocks)
        table.node = match.nodes[-1] if match.nodes else None
        tokens = len(match.nodes) * self.block_size
        now = time.monotonic()
        table.age = self.block_size * sum(now - node.made for node in match.nodes)
        copy = None
        if restore and self.host is not None and self._restore(self.host, table, identities, limit):
            tokens = len(table.blocks) * self.block_size
        elif match.partial is not None:
            source = match.partial.block
            worth = self._pool.worth(source)  # to be copied does not make the rest of it more likely to be asked for
            self._pool.hold(source)  # so that taking the target cannot evict it
            target = self._pool.take(1)
            self._pool.drop([source], self._index.__contains__, worth)
            if target is not None:
                table.blocks += target
                copy = PartialCopy(source, target[0], match.partial_tokens)
                tokens += match.partial_tokens
                table.age += match.partial_tokens * (now - match.partial.made)
        return table, tokens, copy

    def count(self, table: BlockTable, cached: int, misses: int) -> None:
        """Record an opened table that was really used (admission may open, fail and try again)."""
        self.counters.hits += cached - table.restored
        self.counters.misses += misses
        self.counters.hit_age_seconds += table.age
        if self.host is not None:
            self.host.counters.hits += table.restored
            self.host.counters.misses += misses

    def flush(self) -> None:
        """Do the copies from and to the host tier that are due; before anything reads or writes the pool's memory."""
        if self.host is not None:
            self.host.flush()

    def grow(self, table: BlockTable, tokens: int) -> bool:
        """Make room for ``tokens`` tokens in all; ``False`` (and nothing changed) if the pool has not enough."""
        need = -(-tokens // self.block_size) - len(table.blocks)
        if need <= 0:
            return True
        taken = self._pool.take(need, table.blocks[-1] if table.blocks else None)
        if taken is None:
            return False
        table.blocks += taken
        return True

    def grow_ahead(self, table: BlockTable, tokens: int, own: int, most: int) -> bool:
        """:meth:`grow` for a guess: the oldest guesses give way, but nothing that somebody waits for.

        Args:
            own: blocks at the table's beginning that are no guess. most: guessed blocks of the whole pool.
        """
        need = -(-tokens // self.block_size) - len(table.blocks)
        if need <= 0:
            return True
        guessed = len(table.blocks) - min(own, len(table.blocks)) + need
        if guessed > most:
            return False
        self._pool.discard(Worth.GUESSED, guessed + self._pool.idle(Worth.GUESSED) - most)
        taken = self._pool.take(need, table.blocks[-1] if table.blocks else None, ahead=True)
        if taken is None:
            return False
        table.blocks += taken
        return True

    def commit(self, table: BlockTable, identities: Sequence[int], computed: int) -> None:
        """Index the blocks that are full now that ``computed`` tokens have their KV."""
        if not self.reuse:
            return
        size = self.block_size
        while (table.indexed + 1) * size <= computed:
            start = table.indexed * size
            self._append(table, tuple(identities[start : start + size]))

    def publish(self, table: BlockTable, identities: Sequence[int], computed: int) -> None:
        """Index the last, partly filled block too, so that others can use a prompt the moment it is computed.

        The owner goes on filling the rest of the block, which the index does not speak of.
        """
        self.commit(table, identities, computed)
        start = table.indexed * self.block_size
        if self.reuse and start < computed:
            self._append(table, tuple(identities[start:computed]), partial=True)

    def release(
        self, table: BlockTable, identities: Sequence[int], computed: int, *, own: int | None = None
    ) -> Node | None:
        """Give all blocks back; what was computed stays findable, a last partly filled block included.

        Args:
            own: for a guess: the blocks behind the first ``own`` go before all that somebody asked for.

        Returns the node of the last whole block.
        """
        self._tables.remove(id(table))
        self.publish(table, identities, computed)
        # Last block first: leaves become the oldest idle blocks, so chains are eaten from their ends.
        if own is not None:
            self._pool.drop(reversed(table.blocks[own:]), self._index.__contains__, Worth.GUESSED)
        self._pool.drop(reversed(table.blocks[:own]), self._index.__contains__)
        table.blocks = []
        return table.node

    def missing(self, salt: str, identities: Sequence[int], limit: int) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Blocks of ``identities[:limit]`` that neither the pool nor the host tier has.

        Returns:
            how many whole blocks are here, and (name, parent's name) of each after them that has a name.
        """
        wanted: list[tuple[bytes, bytes]] = []
        host, size = self.host, self.block_size
        if host is None:
            return 0, wanted
        nodes = self._index.match(salt, identities, limit).nodes
        name = nodes[-1].name if nodes else host.names.root(salt)
        here = len(nodes)
        if name is not None:
            entries = host.match(name, identities, here * size, limit, size)
            here += len(entries)
            name = entries[-1].key if entries else name
        for start in range(here * size, limit - size + 1, size):
            parent = name
            name = None if parent is None else host.names.extend(parent, identities[start : start + size])
            if name is None or parent is None:
                break
            wanted.append((name, parent))
        return here, wanted

    def named_chain(self, leaf: Node, skip: Callable[[bytes], bool]) -> tuple[list[bytes], list[int]]:
        """Names and blocks up to ``leaf``, root first, as far as they are in the pool and not to be skipped."""
        names: list[bytes] = []
        blocks: list[int] = []
        node: Node | None = leaf
        while node is not None and node.name is not None and self._index.holds(node):
            if not skip(node.name):
                names.append(node.name)
                blocks.append(node.block)
            node = node.parent
        return names[::-1], blocks[::-1]

    def check_integrity(self, held: int | None = None) -> None:
        """Raise :class:`RuntimeError` if anything disagrees.

        Args:
            held: tables the caller holds, if it knows.
        """
        self._pool.check()
        self._index.check()
        if self.host is not None:
            self.host.check_integrity()
        if held is not None and held != len(self._tables):
            raise RuntimeError(f"{len(self._tables)} block tables are open, the caller knows {held}")
        if not self._tables and self._pool.available != self._pool.num_blocks:
            raise RuntimeError(f"{self._pool.num_blocks - self._pool.available} blocks leaked")

    def _append(self, table: BlockTable, key: tuple[int, ...], *, partial: bool = False) -> None:
        block = table.blocks[table.indexed]
        if table.published is not None and self._index.holds(table.published):
            self._index.remove(block)  # never a parent, so nothing hangs below it
        table.published = None
        parent = table.node
        if table.indexed == 0:
            parent = self._root(table.salt)
        elif parent is None or not self._index.holds(parent):
            # Its chain ran through a twin's block, which was evicted; the rest can no longer be reached.
            table.node = None
            table.indexed += 0 if partial else 1
            return
        name = None
        if self.host is not None and parent.name is not None and not partial:
            name = self.host.names.extend(parent.name, key)
        node = self._index.insert(parent, key, block, name)
        if partial:
            table.published = node if node.block == block else None
        else:
            table.node = node
            table.indexed += 1

    def _root(self, salt: str) -> Node:
        root = self._index.root(salt)
        if self.host is not None and root.name is None:
            root.name = self.host.names.root(salt)
        return root

    def _restore(self, host: HostTier, table: BlockTable, identities: Sequence[int], limit: int) -> bool:
        """Go on where the device's prefix ends with blocks of the host tier, if that is worth it."""
        name = host.names.root(table.salt) if table.node is None else table.node.name
        if name is None:
            return False
        size, start = self.block_size, len(table.blocks) * self.block_size
        entries = host.match(name, identities, start, limit, size)
        need = -(-len(identities) // size) - len(table.blocks)
        if self._pool.available < need:
            entries = entries[: max(0, self._pool.available - self._spare)]
        if len(entries) < host.min_blocks or not entries:
            host.counters.declined += len(entries)
            return False
        host.used(entries)
        for entry in entries:
            host.store.pin(entry)  # so that what leaves the device for them cannot push them out
        blocks = self._pool.take(len(entries), table.blocks[-1] if table.blocks else None)
        for entry in entries:
            host.store.unpin(entry)
        if blocks is None:
            raise RuntimeError("the pool counted blocks as available and did not give them")
        node = table.node or self._root(table.salt)  # after taking, which may have emptied the salt's tree
        for entry, block in zip(entries, blocks, strict=True):
            host.load(entry, block)
            node = self._index.insert(node, tuple(identities[start : start + size]), block, entry.key)
            start += size
        table.blocks += blocks
        table.indexed, table.node = len(table.blocks), node
        table.restored = len(blocks) * size
        return True

    def _evicted(self, block: int) -> None:
        self.counters.evictions += 1
        for node in self._index.remove(block):
            if node.block == block:
                self.counters.evicted_age_seconds += time.monotonic() - node.made
            known = self._pool.worth(node.block) is Worth.KNOWN  # else it is not likely to be asked for again
            if (
                known
                and self.host is not None
                and node.name is not None
                and node.parent is not None
                and node.parent.name
            ):
                self.host.save(node.name, node.parent.name, node.block)
            if node.block != block:
                self._pool.forget(node.block)
