"""The KV cache against a plain model: what a table's slots hold must be what its identities say."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from autoglm.cache import BlockTable, KVCache

SIZE, BLOCKS = 4, 24
Chain = tuple[str, tuple[int, ...]]


@dataclass
class Open:
    """A sequence of the model."""

    table: BlockTable
    salt: str
    identities: list[int]
    computed: int
    published: bool = field(default=False)


class KVMachine(RuleBasedStateMachine):
    """Slots hold the chain of identities they were computed for, as real KV does."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = KVCache(BLOCKS, SIZE)
        self.slots: list[Chain | None] = [None] * (BLOCKS * SIZE)
        self.open: list[Open] = []

    @rule(
        salt=st.sampled_from(["", "tenant"]),
        identities=st.lists(st.integers(0, 2), min_size=1, max_size=22),
    )
    def start(self, salt: str, identities: list[int]) -> None:
        table, computed, copy = self.cache.open(salt, identities, len(identities) - 1)
        assert computed < len(identities)
        if copy is not None:
            for i in range(copy.tokens):
                self.slots[copy.target * SIZE + i] = self.slots[copy.source * SIZE + i]
        self.open.append(Open(table, salt, list(identities), computed))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), count=st.integers(1, 9))
    def compute(self, data: st.DataObject, count: int) -> None:
        one = data.draw(st.sampled_from(self.open))
        end = min(one.computed + count, len(one.identities))
        before = list(one.table.blocks)
        if not self.cache.grow(one.table, end):
            assert one.table.blocks == before
            return
        assert len(set(one.table.blocks)) == len(one.table.blocks)
        for i in range(one.computed, end):
            slot = one.table.blocks[i // SIZE] * SIZE + i % SIZE
            self.slots[slot] = (one.salt, tuple(one.identities[: i + 1]))
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

    @invariant()
    def contents_are_right(self) -> None:
        for one in self.open:
            for i in range(one.computed):
                slot = one.table.blocks[i // SIZE] * SIZE + i % SIZE
                assert self.slots[slot] == (one.salt, tuple(one.identities[: i + 1]))

    @invariant()
    def intact(self) -> None:
        self.cache.check_integrity(len(self.open))

    def teardown(self) -> None:
        for one in self.open:
            self.cache.release(one.table, one.identities, one.computed)
        self.cache.check_integrity(0)
        assert self.cache.available == BLOCKS


KVMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None, derandomize=True)
TestKV = KVMachine.TestCase


def test_reuse_is_exact_to_the_token() -> None:
    cache = KVCache(64, 4)
    table, _, _ = cache.open("", list(range(10)), 9)
    assert cache.grow(table, 10)
    cache.release(table, list(range(10)), 10)
    for common in range(1, 10):
        identities = [*range(common), 99, 98, 97]
        table, cached, copy = cache.open("", identities, len(identities) - 1)
        assert cached == common
        assert (copy.tokens if copy else 0) == common % 4
        cache.release(table, identities, cached)


def test_a_running_prompt_can_be_shared_before_its_block_is_full() -> None:
    cache = KVCache(8, 4)
    first, _, _ = cache.open("", [1, 2, 3, 4, 5, 6], 5)
    cache.grow(first, 6)
    cache.publish(first, [1, 2, 3, 4, 5, 6], 6)
    _, cached, copy = cache.open("", [1, 2, 3, 4, 5, 6], 6)
    assert cached == 6
    assert copy is not None
    assert copy.source == first.blocks[1]


def test_age_of_hits_and_evictions(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    cache = KVCache(3, SIZE)
    identities = list(range(2 * SIZE))
    table, _, _ = cache.open("", identities, 2 * SIZE - 1)
    assert cache.grow(table, 2 * SIZE)
    cache.release(table, identities, 2 * SIZE)
    now[0] = 13.0
    again, found, copy = cache.open("", identities, 2 * SIZE - 1)
    assert copy is not None
    cache.count(again, found, 1)
    assert cache.counters.hit_age_seconds == 3.0 * (2 * SIZE - 1)
    cache.release(again, identities, found)
    now[0] = 15.0
    other, _, _ = cache.open("", [9] * 3 * SIZE, 3 * SIZE)
    assert cache.grow(other, 3 * SIZE)
    # The two old blocks, and the copy that went with its second.
    assert cache.counters.evicted_age_seconds == 5.0 * cache.counters.evictions - 3.0 * (cache.counters.evictions - 2)


def test_off_switch() -> None:
    cache = KVCache(8, 4, reuse=False)
    table, _, _ = cache.open("", [1] * 9, 8)
    cache.grow(table, 9)
    cache.release(table, [1] * 9, 9)
    assert cache.open("", [1] * 9, 8)[1] == 0
    assert cache.indexed_blocks == 0


def test_chains_are_eaten_from_their_ends() -> None:
    cache = KVCache(4, 4)
    ids = list(range(16))
    table, _, _ = cache.open("", ids, 15)
    cache.grow(table, 16)
    cache.release(table, ids, 16)
    other, _, _ = cache.open("", [99], 0)
    cache.grow(other, 1)
    assert cache.open("", ids, 15)[1] == 12
    assert cache.counters.evictions == 1
