"""Replay of request traces through the real pool, prefix index and host tier; no tensors are moved.

A trace is a list of requests, a request the ids of its blocks (equal id: equal tokens and equal tokens before it).
"""

from __future__ import annotations

import json
import lzma
import random
from collections import OrderedDict, deque
from dataclasses import dataclass
from pathlib import Path

from autoglm.cache import ImageOrdinals, KVCache
from autoglm.cache.host import ChainNames, HostTier
from autoglm.cache.host.transfer import NoTransfer
from autoglm.cache.shields import Shield

BLOCK_TOKENS = 512
MOONCAKE = "mooncake_conversation_trace.jsonl.xz"
Trace = list[list[int]]


@dataclass(frozen=True, slots=True)
class Hits:
    """Blocks found on the device and in host memory, of all asked for."""

    device: int
    host: int
    blocks: int

    @property
    def share(self) -> float:
        return (self.device + self.host) / self.blocks


def read_mooncake(file: Path) -> Trace:
    """The published conversation trace: one JSON object per line, ``hash_ids`` of 512-token blocks."""
    with lzma.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["hash_ids"] for line in lines]


def synthetic(requests: int, seed: int = 0) -> Trace:
    """Dialogues that grow turn by turn and come back after a while, beside single questions; a shared first block."""
    draw, trace, fresh = random.Random(seed), Trace(), 1
    sessions: list[list[int]] = []
    for _ in range(requests):
        if sessions and draw.random() < 0.6:
            # A person answers after a while, in which others ask.
            blocks = sessions[-min(len(sessions), 1 + int(abs(draw.gauss(9, 5))))]
        else:
            blocks = [0]
            sessions.append(blocks)
        grown = range(fresh, fresh + draw.randrange(4, 30))
        fresh = grown.stop
        blocks += grown
        trace.append(list(blocks))
    return trace


def replay(trace: Trace, device: int, *, host: int = 0, queue: int = 0) -> Hits:
    """Serve the requests one by one.

    Args:
        device, host: capacity in blocks. queue: requests that wait behind the one served, and are known.
    """
    tier = None
    if host:
        names = ChainNames(b"", ImageOrdinals())
        tier = HostTier(names, NoTransfer(), pages=host, page_bytes=BLOCK_TOKENS)
    kv = KVCache(device, 1, host=tier)
    waiting: deque[Shield] = deque()
    upcoming = iter(trace[1 : queue + 1]), iter(trace[queue + 1 :])
    if queue:
        waiting.extend(kv.shields.of_prompt("", ids, len(ids)) for ids in upcoming[0])
    total = 0
    for ids in trace:
        total += len(ids)
        table, cached, _ = kv.open("", ids, min(len(ids), device))
        kv.count(table, cached, len(ids) - cached)
        length = min(len(ids), device)
        if not kv.grow(table, length):
            raise RuntimeError("one request at a time must fit")
        kv.release(table, ids, length)
        kv.flush()
        if waiting:
            kv.shields.drop(waiting.popleft())
        if queue and (ahead := next(upcoming[1], None)) is not None:
            waiting.append(kv.shields.of_prompt("", ahead, len(ahead)))
        for shield in waiting:
            kv.shields.renew(shield)
    kv.check_integrity(0)
    return Hits(kv.counters.hits, tier.counters.hits if tier else 0, total)


def plain_lru(trace: Trace, capacity: int) -> Hits:
    """The baseline: a plain LRU of block ids, the tail of a request the older part; hits are the known prefix."""
    order: OrderedDict[int, None] = OrderedDict()
    hits = total = 0
    for ids in trace:
        total += len(ids)
        known = next((i for i, block in enumerate(ids) if block not in order), len(ids))
        hits += known
        for block in reversed(ids):
            order[block] = None
            order.move_to_end(block)
        while len(order) > capacity:
            order.popitem(last=False)
    return Hits(hits, 0, total)


def unbounded(trace: Trace) -> float:
    """Hit share with room for everything."""
    seen: set[int] = set()
    hits = total = 0
    for ids in trace:
        total += len(ids)
        hits += next((i for i, block in enumerate(ids) if block not in seen), len(ids))
        seen.update(ids)
    return hits / total
