"""Random operations on the host tier with real bytes, checked against plain dictionaries.

Counts what must be zero: blocks that read wrong, and objects put out of the arena although enough bytes were free.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

import torch

from autoglm.cache import ImageOrdinals
from autoglm.cache.host import ChainNames, Entry, HostTier
from autoglm.cache.host.transfer import TensorTransfer

_BLOCKS, _PAGES, _SIZE = 64, 96, 4
_HEADS, _DIM = 2, 64  # a block of 8 KiB: four size classes
_FLUSH_EVERY = 12


@dataclass(slots=True)
class Report:
    """``wrong`` and ``fragmented`` must stay 0."""

    operations: int = 0
    wrong: int = 0
    fragmented: int = 0
    loads: int = 0
    objects_read: int = 0
    evictions: int = 0
    moved_bytes: int = 0


class Exercise:
    """The tier and, beside it, what everything should read as."""

    def __init__(self, seed: int) -> None:
        self.report = Report()
        self.draw = random.Random(seed)
        keys, values = (torch.zeros(1, _HEADS, _BLOCKS * _SIZE, _DIM) for _ in range(2))
        self.keys, self.values = keys.numpy(), values.numpy()  # the same memory, quicker to look at
        transfer = TensorTransfer(keys, values, _SIZE, _PAGES)
        names = ChainNames(b"random", ImageOrdinals())
        self.tier = HostTier(names, transfer, pages=_PAGES, page_bytes=transfer.page_bytes)
        self.device = [0.0] * _BLOCKS  # what each block holds once all copies are done
        self.blocks: dict[bytes, float] = {}
        self.objects: dict[bytes, bytes] = {}
        self.chains: list[bytes] = [bytes(32)]
        self.shielded: list[Entry] = []
        self.loaded: dict[int, float] = {}
        self.next = 1.0

    def run(self, operations: int) -> Report:
        kinds = (self.compute, self.save, self.load, self.put_object, self.read_object, self.shield, self.remove)
        for step in range(operations):
            # Phases of blocks and of objects: what leaves a slab without a mover in the wrong classes.
            weights = (3, 6, 6, 1, 1, 1, 1) if step // 2000 % 2 else (1, 2, 2, 7, 3, 1, 1)
            self.draw.choices(kinds, weights)[0]()
            if step % _FLUSH_EVERY == 0:
                self.flush()
            if step % 20_000 == 0:
                self.tier.check_integrity()
        self.flush()
        self.tier.check_integrity()
        self.report.operations += operations
        self.report.loads = self.tier.counters.loads
        self.report.evictions = sum(self.tier.store.evictions.values())
        self.report.moved_bytes = self.tier.store.arena.moved_bytes
        return self.report

    def compute(self) -> None:
        """A step of the model writes a block; copies that are due come first, as in the engine."""
        self.flush()
        block = self.draw.randrange(_BLOCKS)
        self.fill(block, self.next)
        self.next += 1.0

    def save(self) -> None:
        """A block leaves the device as the end of a random chain."""
        block, parent = self.draw.randrange(_BLOCKS), self.draw.choice(self.chains)
        name = hashlib.sha256(parent + str(self.device[block]).encode()).digest()
        with self.room(self.tier.page_bytes, name):
            self.tier.save(name, parent, block)
        self.blocks[name] = self.device[block]
        self.chains.append(name)
        if len(self.chains) > 200:
            self.chains = [bytes(32), *self.chains[-100:]]
            self.blocks = {n: v for n, v in self.blocks.items() if n in self.tier.store}

    def load(self) -> None:
        name = self.draw.choice(self.chains)
        entry = self.tier.store.get(name)
        if entry is not None and name in self.blocks:
            block = self.draw.randrange(_BLOCKS)
            self.tier.load(entry, block)
            self.tier.used([entry])
            self.device[block] = self.loaded[block] = self.blocks[name]

    def put_object(self) -> None:
        payload = self.draw.randbytes(self.draw.randrange(1, 3 * self.tier.page_bytes))
        name = hashlib.sha256(payload).digest()
        with self.room(len(payload), name):
            self.tier.keep(name, payload)
        self.objects[name] = payload
        if len(self.objects) > 400:
            self.objects = {n: p for n, p in self.objects.items() if n in self.tier.store}

    def read_object(self) -> None:
        if self.objects:
            name = self.draw.choice(list(self.objects)[-50:])
            found = self.tier.read(name)
            self.report.objects_read += found is not None
            self.report.wrong += found is not None and found != self.objects[name]

    def shield(self) -> None:
        entry = self.tier.store.get(self.draw.choice(self.chains))
        if entry is not None:
            self.tier.store.shield(entry)
            self.shielded.append(entry)
        if len(self.shielded) > 10:
            self.tier.store.unshield(self.shielded.pop(0))

    def remove(self) -> None:
        name = self.draw.choice([*self.chains[-20:], *list(self.objects)[-20:]])
        entry = self.tier.store.get(name)
        if entry is not None and not entry.pins:
            self.tier.store.remove(name)

    def flush(self) -> None:
        self.tier.flush()
        for block, value in self.loaded.items():
            rows = slice(block * _SIZE, (block + 1) * _SIZE)
            right = bool((self.keys[:, :, rows] == value).all()) and bool((self.values[:, :, rows] == -value).all())
            self.report.wrong += not right
        self.loaded.clear()

    def fill(self, block: int, value: float) -> None:
        self.keys[:, :, block * _SIZE : (block + 1) * _SIZE] = value
        self.values[:, :, block * _SIZE : (block + 1) * _SIZE] = -value
        self.device[block] = value

    def room(self, nbytes: int, name: bytes) -> _Room:
        return _Room(self, nbytes, name)


class _Room:
    """Counts it if something is put out although there was room."""

    def __init__(self, exercise: Exercise, nbytes: int, name: bytes) -> None:
        store = exercise.tier.store
        self._exercise = exercise
        self._fits = name in store or store.arena.rounded(nbytes) <= store.arena.free_bytes
        self._evicted = store.evictions["capacity"] + store.evictions["shielded"]

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_error: object) -> None:
        evictions = self._exercise.tier.store.evictions
        gone = evictions["capacity"] + evictions["shielded"] - self._evicted
        self._exercise.report.fragmented += self._fits and gone > 0
