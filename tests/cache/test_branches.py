"""Order of eviction against a plain model: what was dropped, then guesses, then the oldest; never what is in use."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from autoglm.cache import ImageOrdinals, KVCache, Node, Worth
from autoglm.cache.blocks import BlockPool
from autoglm.cache.host import ChainNames, HostTier
from autoglm.cache.host.transfer import NoTransfer

SIZE, BLOCKS = 4, 10


class PoolMachine(RuleBasedStateMachine):
    """The pool beside lists: who is held, and in which order idle blocks go."""

    def __init__(self) -> None:
        super().__init__()
        self.gone: list[int] = []
        self.pool = BlockPool(BLOCKS, SIZE, self.gone.append)
        self.held: dict[int, int] = {}
        self.idle: list[tuple[int, Worth]] = []  # in the order in which they became what they are
        self.shielded: set[int] = set()

    def order(self, ahead: bool = False) -> list[int]:
        ranks = [w for w in Worth if not ahead or w is not Worth.GUESSED]
        return [b for w in ranks for b, worth in self.idle if worth is w and b not in self.shielded]

    @rule(count=st.integers(1, 4), ahead=st.booleans())
    def take(self, count: int, ahead: bool) -> None:
        free = BLOCKS - len(self.held) - len(self.idle)
        victims = self.order(ahead)
        rest = [] if ahead else [b for b, _ in self.idle if b in self.shielded]
        self.gone.clear()
        blocks = self.pool.take(count, ahead=ahead)
        if count > free + len(victims) + len(rest):
            assert blocks is None
            assert not self.gone
            return
        assert blocks is not None
        expected = victims[: max(0, count - free)]
        assert self.gone[: len(expected)] == expected
        assert set(self.gone[len(expected) :]) <= set(rest)
        self.idle = [(b, w) for b, w in self.idle if b not in self.gone]
        self.shielded -= set(self.gone)
        self.held |= dict.fromkeys(blocks, 1)

    @precondition(lambda self: self.idle)
    @rule(data=st.data())
    def hit(self, data: st.DataObject) -> None:
        block, _ = data.draw(st.sampled_from(self.idle))
        self.pool.hold(block)
        self.idle = [(b, w) for b, w in self.idle if b != block]
        self.held[block] = 1
        assert self.pool.worth(block) is Worth.KNOWN

    @precondition(lambda self: self.held)
    @rule(data=st.data(), worth=st.sampled_from([None, Worth.GUESSED]), indexed=st.booleans())
    def drop(self, data: st.DataObject, worth: Worth | None, indexed: bool) -> None:
        block = data.draw(st.sampled_from(sorted(self.held)))
        del self.held[block]
        if block in self.shielded:
            self.pool.unshield(block)
            self.shielded.discard(block)
        self.pool.drop([block], lambda _: indexed, worth)
        if indexed:
            self.idle.append((block, worth or Worth.KNOWN))

    @precondition(lambda self: self.idle)
    @rule(data=st.data(), worth=st.sampled_from([Worth.DROPPED, Worth.GUESSED]))
    def demote(self, data: st.DataObject, worth: Worth) -> None:
        at = data.draw(st.integers(0, len(self.idle) - 1))
        block, old = self.idle[at]
        assert self.pool.demote(block, worth) == (worth < old)
        if worth < old:
            del self.idle[at]
            self.idle.append((block, worth))

    @precondition(lambda self: self.idle)
    @rule(data=st.data())
    def shield(self, data: st.DataObject) -> None:
        block, worth = data.draw(st.sampled_from(self.idle))
        if block in self.shielded:
            self.pool.unshield(block)
            self.shielded.discard(block)
            self.idle.remove((block, worth))
            self.idle.append((block, worth))
        else:
            self.pool.shield(block)
            self.shielded.add(block)

    @rule(worth=st.sampled_from(Worth), count=st.integers(0, 3))
    def discard(self, worth: Worth, count: int) -> None:
        expected = [b for b, w in self.idle if w is worth and b not in self.shielded][:count]
        self.gone.clear()
        self.pool.discard(worth, count)
        assert self.gone == expected
        self.idle = [(b, w) for b, w in self.idle if b not in expected]

    @invariant()
    def counts_agree(self) -> None:
        self.pool.check()
        assert self.pool.available == BLOCKS - len(self.held)
        for worth in Worth:
            assert self.pool.idle(worth) == sum(w is worth and b not in self.shielded for b, w in self.idle)
        assert all(self.pool.in_use(b) for b in self.held)


PoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
TestPool = PoolMachine.TestCase


def run(cache: KVCache, identities: list[int]) -> Node:
    """Compute a whole prompt; its last whole block."""
    table, _, _ = cache.open("", identities, len(identities))
    assert cache.grow(table, len(identities))
    leaf = cache.release(table, identities, len(identities))
    cache.check_integrity(0)
    assert leaf is not None
    return leaf


def known(cache: KVCache, identities: list[int]) -> int:
    """Tokens that would be hit; looking changes nothing."""
    return len(cache._index.match("", identities, len(identities)).nodes) * SIZE


SYSTEM = [1, 2, 3, 4]
OLD = [*SYSTEM, 50, 51, 52, 53, 54, 55, 56, 57, 9]  # a screen, an answer, and a part of a block
NEXT = [*SYSTEM, 60, 61, 62, 63]


def test_the_old_branch_goes_first_and_its_beginning_stays() -> None:
    cache = KVCache(8, SIZE)
    leaf = run(cache, OLD)
    other = [70, 71, 72, 73]
    run(cache, other)  # younger than the old branch, older than nothing
    cache.branches.end(leaf)
    cache.branches.leave(leaf)
    shared = cache.branches.drop(leaf, "", NEXT)
    assert shared is not None
    assert shared.key == tuple(SYSTEM)
    assert cache.branches.dropped_blocks == 3
    run(cache, [80 + i for i in range(4 * 6)])  # three are free, three more are needed
    assert (known(cache, OLD), known(cache, other)) == (4, 4)
    assert cache.evictions_of(Worth.DROPPED) == 3


def test_what_another_dialogue_shows_stays() -> None:
    cache = KVCache(16, SIZE)
    leaf = run(cache, OLD)
    cache.branches.end(leaf)
    cache.branches.end(leaf)  # two phones, the same screen and the same answer
    cache.branches.leave(leaf)
    cache.branches.drop(leaf, "", NEXT)
    # What hangs behind the other's last whole block may go, the rest may not.
    assert cache.branches.dropped_blocks <= 1
    cache.branches.leave(leaf)
    cache.branches.drop(leaf, "", NEXT)
    assert cache.branches.dropped_blocks == 3
    assert len(cache.branches) == 0


def test_another_answer_behind_the_same_screen_stays() -> None:
    cache = KVCache(16, SIZE)
    leaf = run(cache, OLD)
    run(cache, [*OLD[:8], 99, 98, 97, 96])
    cache.branches.drop(leaf, "", NEXT)
    assert cache.branches.dropped_blocks == 2  # the answer that was dropped, not the screen before both


def test_what_is_in_use_stays() -> None:
    cache = KVCache(16, SIZE)
    leaf = run(cache, OLD)
    table, _, _ = cache.open("", OLD, len(OLD))
    cache.branches.drop(leaf, "", NEXT)
    assert cache.branches.dropped_blocks <= 1  # the copied part of a block has another owner
    cache.release(table, OLD, len(OLD))


def test_a_hit_makes_it_as_good_as_any() -> None:
    cache = KVCache(8, SIZE)
    leaf = run(cache, OLD)
    cache.branches.drop(leaf, "", NEXT)
    table, cached, _ = cache.open("", OLD, 12)
    assert cached == 12
    cache.release(table, OLD, 12)
    run(cache, [70, 71, 72, 73] * 2)
    run(cache, [80 + i for i in range(4)])
    assert cache.evictions_of(Worth.DROPPED) <= 1
    assert known(cache, OLD) == 12


def test_guesses_are_bounded_and_go_before_what_was_asked_for() -> None:
    cache = KVCache(8, SIZE)
    run(cache, [70 + i for i in range(16)])
    for number in range(3):
        prompt = [100 * number + i for i in range(1000, 1008)]
        table, _, _ = cache.open("", prompt, 8)
        assert cache.grow_ahead(table, 8, 0, 2)
        assert not cache.grow_ahead(table, 12, 0, 2)
        cache.release(table, prompt, 8, own=0)
        cache.check_integrity(0)
        assert known(cache, prompt) == 8
    assert cache.indexed_blocks == 6  # the newest guess of two blocks, and all of what was asked for
    run(cache, [200 + i for i in range(16)])
    assert known(cache, [70 + i for i in range(16)]) == 16


def test_host_memory_is_not_filled_with_what_was_dropped() -> None:
    host = HostTier(ChainNames(b"", ImageOrdinals()), NoTransfer(), pages=16, page_bytes=64)
    cache = KVCache(4, SIZE, host=host)
    leaf = run(cache, OLD[:12])
    cache.branches.drop(leaf, "", NEXT)
    run(cache, [70 + i for i in range(16)])
    cache.flush()
    # The beginning that the next request shares is kept, the rest of the branch is not.
    assert (cache.evictions_of(Worth.DROPPED), host.counters.saves) == (2, 1)
