"""Extension and twin do the same: every result, every departure in its order, every counter."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.cache.local import LocalCache, Policy
from tests.cache.local.helpers import IMPLEMENTATIONS, POLICIES, Clock, Notes, make


class Pair:
    """Both implementations on one clock."""

    def __init__(self, seed: int, policy: Policy, entries: int, weight: int | None, ttl: float | None) -> None:
        self.random = random.Random(seed)
        self.clock = Clock()
        self.entries = entries
        self.max_weight = weight
        self.notes = [Notes() for _ in IMPLEMENTATIONS]
        self.caches: list[LocalCache[Any, Any]] = [
            make(
                implementation,
                max_entries=entries,
                max_weight=weight,
                ttl=ttl,
                policy=policy,
                clock=self.clock,
                listener=notes,
            )
            for implementation, notes in zip(IMPLEMENTATIONS, self.notes, strict=True)
        ]

    def both(self, method: str, *arguments: object) -> Any:
        first, second = (getattr(cache, method)(*arguments) for cache in self.caches)
        assert first == second, method
        assert self.notes[0].take() == self.notes[1].take(), method
        return first

    def step(self, number: int) -> None:
        r = self.random
        self.clock.seconds += r.random() * 0.01
        key = int(r.paretovariate(0.6)) % (self.entries * 4 + 5)
        chance = r.random()
        if chance < 0.6:
            if self.both("get", key) is None:
                self.both("put", key, number, None, key % 50)
        elif chance < 0.94:
            self.both("put", key, number, r.choice([None, None, 0.5, 2.0]), r.randrange(60))
        elif chance < 0.98:
            self.both("remove", key)
        elif chance < 0.99:
            self.both("purge")
        elif chance < 0.992:
            self.both("_resize", r.randrange(1, 2 * self.entries + 2), -1 if self.max_weight is None else 700)
        elif chance < 0.993:
            self.both("clear")

    def agree(self) -> None:
        for question in ("_snapshot", "_counters", "_segments", "_limits", "__len__"):
            self.both(question)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    policy=st.sampled_from(POLICIES),
    entries=st.sampled_from([0, 1, 5, 40, 300]),
    weight=st.sampled_from([None, 900, 5000]),
    ttl=st.sampled_from([None, 3.0, 20.0]),
)
def test_same_results(seed: int, policy: Policy, entries: int, weight: int | None, ttl: float | None) -> None:
    pair = Pair(seed, policy, entries, weight, ttl)
    for number in range(800):
        pair.step(number)
    pair.agree()


@pytest.mark.parametrize("keys", ["numbers", "texts", "pairs"])
def test_same_evictions_of_the_adaptive_policy_while_its_window_moves(keys: str) -> None:
    """A phase of scans, one of loops, one of recency: the shadows change their choice and both follow."""
    pair = Pair(3, Policy.ADAPTIVE, 256, None, None)
    r = pair.random
    phases = [
        [int(r.paretovariate(0.8)) if r.random() < 0.6 else 100_000 + n for n in range(6000)],
        [n % 300 for n in range(4000)],
        [200_000 + n // 4 - int(r.random() ** 2 * 200) for n in range(8000)],
    ]
    windows = [pair.both("_segments")[3]]
    for phase in phases:
        for number in phase:
            key: object = {"numbers": number, "texts": f"key {number}", "pairs": (number, "x")}[keys]
            if pair.both("get", key) is None:
                pair.both("put", key, number)
        windows.append(pair.both("_segments")[3])
        pair.agree()
    if keys == "numbers":  # the sample of the others changes with every process' hash seed
        assert windows[0] > min(windows) < windows[-1]


def test_both_implementations_are_there() -> None:
    names = {type(make(implementation)).__name__ for implementation in IMPLEMENTATIONS}
    assert names == {"SlabCache", "PythonCache"}
