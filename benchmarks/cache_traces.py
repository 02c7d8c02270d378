"""Key sequences to replay: stored public traces where there is a folder of them, and a seeded synthetic one.

Formats: Mooncake's requests (JSON lines, ``hash_ids`` of 512-token blocks; FAST'25, Apache-2.0) and cache2k's
big-endian 32-bit keys (CC BY 4.0, headissue GmbH, Jens Wilke), both compressed with xz.
"""

from __future__ import annotations

import array
import heapq
import lzma
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Trace:
    """A named sequence of keys."""

    name: str
    keys: list[int]

    @property
    def distinct(self) -> int:
        return len(set(self.keys))


class _Request(msgspec.Struct):
    hash_ids: list[int]


def mooncake(file: Path) -> list[int]:
    """The blocks of all requests, one after the other."""
    decoder = msgspec.json.Decoder(_Request)
    with lzma.open(file) as lines:
        return [block for line in lines for block in decoder.decode(line).hash_ids]


def cache2k(file: Path, limit: int | None = None) -> list[int]:
    """The first ``limit`` keys."""
    keys = array.array("i")
    keys.frombytes(lzma.decompress(file.read_bytes()))
    if sys.byteorder == "little":
        keys.byteswap()
    return keys[:limit].tolist()


STORED: dict[str, tuple[str, Callable[[Path], list[int]]]] = {
    "mc_conversation": ("mooncake_conversation_trace.jsonl.xz", mooncake),
    "web07": ("cache2k_web07.trace.xz", cache2k),
    "orm_busy1m": ("cache2k_orm-busy.trace.xz", lambda file: cache2k(file, 1_000_000)),
}


def stored(folder: Path) -> list[Trace]:
    """All known traces of a folder; :class:`FileNotFoundError` if one is missing."""
    return [Trace(name, load(folder / file)) for name, (file, load) in STORED.items()]


def zipf() -> Trace:
    """Zipf(0.99) over 100,000 keys in random order, a million requests: the one the published rates were taken on."""
    import numpy as np

    rng = np.random.default_rng(7)
    weights = 1.0 / np.arange(1, 100_001) ** 0.99
    order = rng.permutation(100_000)
    return Trace("zipf099", order[rng.choice(100_000, 1_000_000, p=weights / weights.sum())].tolist())


def synthetic(requests: int = 60_000, seed: int = 7) -> Trace:
    """Zipf(0.99) over 5,000 keys whose ranks drift, one request in five from a scan that is never repeated."""
    rng = random.Random(seed)
    keys = list(range(5000))
    weights = [(rank + 1) ** -0.99 for rank in range(len(keys))]
    drawn: list[int] = []
    scan = 1_000_000
    for start in range(0, requests, 1000):
        for key in rng.choices(keys, weights, k=min(1000, requests - start)):
            if rng.random() < 0.2:
                scan += 1
                drawn.append(scan)
            else:
                drawn.append(key)
        for _ in range(40):  # drift: some keys change places
            a, b = rng.randrange(len(keys)), rng.randrange(len(keys))
            keys[a], keys[b] = keys[b], keys[a]
    return Trace("synthetic", drawn)


def belady(keys: Sequence[int], entries: int) -> float:
    """Hit rate of the optimum that may also not store: of what is known to come again, the soonest stays."""
    upcoming = [NEVER] * len(keys)
    last: dict[int, int] = {}
    for position in range(len(keys) - 1, -1, -1):
        upcoming[position] = last.get(keys[position], NEVER)
        last[keys[position]] = position
    held: dict[int, int] = {}
    farthest: list[tuple[int, int]] = []
    hits = 0
    for position, key in enumerate(keys):
        due = upcoming[position]
        if key in held:
            hits += 1
        elif due == NEVER or entries == 0:
            continue
        if due == NEVER:
            del held[key]
            continue
        held[key] = due
        heapq.heappush(farthest, (-due, key))
        while len(held) > entries:
            late, victim = heapq.heappop(farthest)
            if held.get(victim) == -late:
                del held[victim]
    return hits / len(keys)
