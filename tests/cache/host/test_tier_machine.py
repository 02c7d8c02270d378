"""Pool, index and host tier over real tensors, against a plain model: every slot reads as what it was computed for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from autoglm.cache import BlockTable, ImageOrdinals, KVCache, Shield
from autoglm.cache.host import ChainNames, HostTier
from autoglm.cache.host.transfer import TensorTransfer

SIZE, BLOCKS, PAGES = 4, 8, 6
LAYERS, HEADS, DIM = 2, 1, 128  # a block of 8 KiB: four size classes
Chain = tuple[str, tuple[int, ...]]


@dataclass
class Open:
    table: BlockTable
    salt: str
    identities: list[int]
    computed: int


class HostMachine(RuleBasedStateMachine):
    """A slot's KV is a number made for its chain of identities; copies move real tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = torch.zeros(LAYERS, HEADS, BLOCKS * SIZE, DIM)
        self.values = torch.zeros_like(self.keys)
        transfer = TensorTransfer(self.keys, self.values, SIZE, PAGES)
        names = ChainNames(b"model", ImageOrdinals())
        self.host = HostTier(names, transfer, pages=PAGES, page_bytes=transfer.page_bytes)
        self.cache = KVCache(BLOCKS, SIZE, host=self.host)
        self.numbers: dict[Chain, int] = {}
        self.open: list[Open] = []
        self.waiting: list[Shield] = []
        self.objects: dict[bytes, bytes] = {}

    def number(self, one: Open, position: int) -> int:
        return self.numbers.setdefault((one.salt, tuple(one.identities[: position + 1])), len(self.numbers) + 1)

    def rows(self, block: int, tokens: int) -> slice:
        return slice(block * SIZE, block * SIZE + tokens)

    @rule(salt=st.sampled_from(["", "tenant"]), identities=st.lists(st.integers(0, 2), min_size=1, max_size=22))
    def start(self, salt: str, identities: list[int]) -> None:
        table, computed, copy = self.cache.open(salt, identities, len(identities) - 1)
        assert computed < len(identities)
        if copy is not None:
            self.cache.flush()
            for memory in (self.keys, self.values):
                memory[:, :, self.rows(copy.target, copy.tokens)] = memory[:, :, self.rows(copy.source, copy.tokens)]
        self.open.append(Open(table, salt, list(identities), computed))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), count=st.integers(1, 9))
    def compute(self, data: st.DataObject, count: int) -> None:
        one = data.draw(st.sampled_from(self.open))
        end = min(one.computed + count, len(one.identities))
        if not self.cache.grow(one.table, end):
            return
        self.cache.flush()
        for i in range(one.computed, end):
            slot = one.table.blocks[i // SIZE] * SIZE + i % SIZE
            self.keys[:, :, slot] = self.number(one, i)
            self.values[:, :, slot] = -self.number(one, i)
        one.computed = end
        self.cache.commit(one.table, one.identities, end)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), token=st.integers(0, 2))
    def append(self, data: st.DataObject, token: int) -> None:
        data.draw(st.sampled_from(self.open)).identities.append(token)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.open))
        self.cache.publish(one.table, one.identities, one.computed)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.open))
        self.open.remove(one)
        self.cache.release(one.table, one.identities, one.computed)

    @rule(salt=st.sampled_from(["", "tenant"]), identities=st.lists(st.integers(0, 2), min_size=1, max_size=22))
    def wait(self, salt: str, identities: list[int]) -> None:
        """A prompt waits, and is known to."""
        self.waiting.append(self.cache.shields.of_prompt(salt, identities, len(identities)))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        self.cache.shields.renew(data.draw(st.sampled_from(self.waiting)))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(one)
        self.cache.shields.drop(one)

    @rule(name=st.sampled_from([b"a" * 32, b"b" * 32]), size=st.integers(1, 300))
    def keep_object(self, name: bytes, size: int) -> None:
        """Something of another size shares the arena."""
        if self.host.read(name) is None and self.host.keep(name, name * size):
            self.objects[name] = name * size
        found = self.host.read(name)
        assert found is None or found == self.objects[name]

    @rule()
    def step(self) -> None:
        """Copies are due; until then several openings, evictions and releases pile up."""
        self.cache.flush()
        self.contents_are_right()

    def contents_are_right(self) -> None:
        for one in self.open:
            for i in range(one.computed):
                slot = one.table.blocks[i // SIZE] * SIZE + i % SIZE
                assert (self.keys[:, :, slot] == self.number(one, i)).all()
                assert (self.values[:, :, slot] == -self.number(one, i)).all()

    @invariant()
    def intact(self) -> None:
        self.cache.check_integrity(len(self.open))

    def teardown(self) -> None:
        self.step()
        for waiting in self.waiting:
            self.cache.shields.drop(waiting)
        for one in self.open:
            self.cache.release(one.table, one.identities, one.computed)
        self.cache.check_integrity(0)
        assert self.cache.available == BLOCKS


HostMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None, derandomize=True)
TestHost = HostMachine.TestCase
