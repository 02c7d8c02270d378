"""Both implementations against a plain dict: time, weights, expiry, causes, order."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from autoglm.cache.local import Cause, Implementation, LocalCache, Policy
from tests.cache.local.helpers import IMPLEMENTATIONS, POLICIES, Clock, Notes, make

KEYS = st.integers(0, 24)
TTLS = st.sampled_from([None, 0.001, 0.5, 3.0, math.inf])
FOREVER = math.inf


class LocalMachine(RuleBasedStateMachine):
    """The model knows what was put, until when, how heavy. Whom to evict is the policy's choice, whether is not."""

    implementation: ClassVar[Implementation]
    policy: ClassVar[Policy]

    @initialize(max_entries=st.integers(0, 12), max_weight=st.none() | st.integers(0, 60), ttl=st.none() | st.just(2.0))
    def start(self, max_entries: int, max_weight: int | None, ttl: float | None) -> None:
        self.clock, self.notes = Clock(), Notes()
        self.ttl = FOREVER if ttl is None else ttl
        self.cache: LocalCache[Any, Any] = make(
            self.implementation,
            max_entries=max_entries,
            max_weight=max_weight,
            ttl=ttl,
            policy=self.policy,
            clock=self.clock,
            listener=self.notes,
            weigher=lambda _key, value: value % 20,
        )
        self.max_entries, self.max_weight = max_entries, math.inf if max_weight is None else max_weight
        self.model: OrderedDict[int, tuple[int, float, int]] = OrderedDict()  # value, deadline, weight; LRU order
        self.hits = self.misses = self.serial = 0
        self.left = dict.fromkeys(Cause, 0)

    def expired(self, key: int) -> bool:
        return self.clock.seconds >= self.model[key][1]

    def live(self) -> dict[int, int]:
        return {key: entry[0] for key, entry in self.model.items() if not self.expired(key)}

    def absorb(self, allowed: set[Cause], over: bool = False) -> list[tuple[int, int, Cause]]:
        """Take what left out of the model; every departure must have been allowed, and its cause true."""
        told = self.notes.take()
        for key, value, cause in told:
            assert cause in allowed, (key, value, cause)
            assert self.model[key][0] == value
            assert self.expired(key) == (cause is Cause.EXPIRED) or cause is Cause.EXPLICIT
            if cause in (Cause.SIZE, Cause.WEIGHT):
                assert over or len(self.model) > self.max_entries or self.weight() > self.max_weight
            del self.model[key]
            self.left[cause] += 1
        return told

    def weight(self) -> int:
        return sum(entry[2] for entry in self.model.values())

    @rule(key=KEYS, ttl=TTLS, weight=st.none() | st.integers(0, 70))
    def put(self, key: int, ttl: float | None, weight: int | None) -> None:
        self.serial += 1
        value, heavy = self.serial, self.serial % 20 if weight is None else weight
        before = self.model.get(key)
        stored = self.cache.put(key, value, ttl, weight)
        if before is not None:  # the old value of this key is told of first
            old_key, old_value, cause = self.notes.pop(0)
            assert (old_key, old_value) == (key, before[0])
            assert cause is (Cause.EXPIRED if self.expired(key) else Cause.REPLACED)
            self.left[cause] += 1
        life = self.ttl if ttl is None else ttl
        self.model[key] = (value, self.clock.seconds + life, heavy)
        self.model.move_to_end(key)
        if heavy > self.max_weight:
            assert self.notes.take() == [(key, value, Cause.WEIGHT)]
            del self.model[key]
            self.left[Cause.WEIGHT] += 1
        else:
            order = [k for k in self.model if not self.expired(k)]
            told = self.absorb({Cause.SIZE, Cause.WEIGHT, Cause.EXPIRED})
            if self.policy is Policy.LRU:
                assert [k for k, _, c in told if c is not Cause.EXPIRED] == order[: len(order) - len(self.live())]
        assert stored == (key in self.model)

    @rule(key=KEYS)
    def get(self, key: int) -> None:
        found = self.cache.get(key, "absent")
        if key in self.model and not self.expired(key):
            assert found == self.model[key][0]
            assert self.notes == []
            self.model.move_to_end(key)
            self.hits += 1
        else:
            was_there = key in self.model
            assert found == "absent"
            assert len(self.absorb({Cause.EXPIRED})) == was_there
            self.misses += 1

    @rule(key=KEYS)
    def look_without_use(self, key: int) -> None:
        live = self.live()
        assert self.cache.peek(key, "absent") == live.get(key, "absent")
        assert (key in self.cache) == (key in live)
        assert self.notes == []

    @rule(key=KEYS)
    def remove(self, key: int) -> None:
        live = key in self.live()
        assert self.cache.remove(key) == live
        told = self.absorb({Cause.EXPLICIT} if live else {Cause.EXPIRED})
        assert len(told) <= 1
        assert key not in self.model

    @rule(seconds=st.sampled_from([0.001, 0.4999, 0.5, 1.0, 2.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.clock.seconds += seconds

    @rule()
    def purge(self) -> None:
        due = len(self.model) - len(self.live())
        assert self.cache.purge() == due
        assert len(self.absorb({Cause.EXPIRED})) == due

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.absorb({Cause.EXPLICIT})
        assert not self.model

    @rule(max_entries=st.integers(0, 12), max_weight=st.none() | st.integers(0, 60))
    def resize(self, max_entries: int, max_weight: int | None) -> None:
        self.cache.resize(max_entries, max_weight)
        self.max_entries, self.max_weight = max_entries, math.inf if max_weight is None else max_weight
        self.absorb({Cause.SIZE, Cause.WEIGHT, Cause.EXPIRED}, over=True)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "cache"):
            return
        items = self.cache.items()
        assert dict(items) == self.live()
        assert len(items) == len(self.live())
        if self.policy is Policy.LRU:
            assert [key for key, _ in items] == [key for key in self.model if not self.expired(key)]
        assert len(self.cache) == len(self.model) <= self.max_entries
        stats = self.cache.stats()
        assert stats.weight == self.weight() <= self.max_weight
        assert (stats.hits, stats.misses, stats.inserts) == (self.hits, self.misses, self.serial)
        assert stats.removed == self.left
        assert sum(self.left.values()) + len(self.model) == self.serial  # every value left once or is here


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_agrees_with_a_dict(implementation: Implementation, policy: Policy) -> None:
    bound: Any = type("Bound", (LocalMachine,), {"implementation": implementation, "policy": policy})
    case = bound.TestCase()
    case.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
    case.runTest()


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_agrees_with_a_dict_for_long(implementation: Implementation, policy: Policy) -> None:
    bound: Any = type("Bound", (LocalMachine,), {"implementation": implementation, "policy": policy})
    case = bound.TestCase()
    case.settings = settings(max_examples=1500, stateful_step_count=80, deadline=None)
    case.runTest()
