"""Keys, values, listeners, weighers and clocks that call back, change the cache under its own feet, or raise."""

from __future__ import annotations

import gc
import random
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from autoglm.cache.local import Cause, Implementation, LocalCache, Policy
from tests.cache.local.helpers import Clock, HookedKey, Notes, make


@pytest.fixture(autouse=True)
def no_hook_left() -> Iterator[None]:
    yield
    HookedKey.hook = None


def check(cache: LocalCache[Any, Any]) -> None:
    """What must hold whatever happened."""
    items = cache.items()
    keys = [key.number for key, _ in items]
    assert len(keys) == len(set(keys))
    assert len(items) == len(cache) <= cache.stats().max_entries
    for key, value in items:
        assert cache.peek(HookedKey(key.number)) == value


@pytest.mark.parametrize("seed", range(4))
def test_comparisons_that_change_the_cache(implementation: Implementation, policy: Policy, seed: int) -> None:
    """Every value put is in the cache or was told of exactly once, after a storm of re-entrant calls and errors."""
    r = random.Random(seed)
    notes = Notes()
    cache = make(implementation, max_entries=6, ttl=None, policy=policy, listener=notes)
    put: list[int] = []
    depth = serial = 0

    def call(number: int) -> None:
        chance, key = r.random(), HookedKey(r.randrange(10))
        if chance < 0.5:
            # Taken back if the key's comparison raises: then nothing was stored.
            put.append(number)
            try:
                cache.put(key, number)
            except LookupError:
                put.remove(number)
        elif chance < 0.75:
            cache.get(key)
        elif chance < 0.9:
            cache.remove(key)
        elif chance < 0.95:
            cache.items()
        elif chance < 0.98:
            cache.resize(r.randrange(1, 8))
        else:
            cache.clear()

    def hook(_where: str) -> None:
        nonlocal depth, serial
        chance = r.random()
        if chance < 0.02:
            raise LookupError("on purpose")
        if chance < 0.15 and depth < 3:
            depth += 1
            serial += 1
            try:
                call(serial)
            finally:
                depth -= 1

    HookedKey.hook = hook
    for outer in range(400):
        try:
            call(-outer - 1)
        except LookupError:
            assert depth == 0
    HookedKey.hook = None
    check(cache)
    seen = Counter([value for _, value, _ in notes] + [value for _, value in cache.items()])
    assert seen == Counter(put)
    assert any(cause is Cause.SIZE for _, _, cause in notes)


def test_a_listener_may_use_the_cache(implementation: Implementation, policy: Policy) -> None:
    told: list[tuple[int, Cause]] = []

    def listener(key: int, value: int, cause: Cause) -> None:
        told.append((key, cause))
        assert cache.peek(key) != value
        if key < 1000:
            cache.put(key + 1000, value)

    cache = make(implementation, max_entries=4, ttl=None, policy=policy, listener=listener)
    for number in range(50):
        cache.put(number, number)
    assert len(cache) == 4
    assert len(told) == 50 + sum(key < 1000 for key, _ in told) - 4
    cache.clear()
    assert sorted(key for key, _ in told if key < 1000) == list(range(50))


def test_values_whose_finaliser_uses_the_cache(implementation: Implementation, policy: Policy) -> None:
    finalised = []

    class Value:
        def __init__(self, number: int) -> None:
            self.number = number

        def __del__(self) -> None:
            finalised.append(self.number)
            cache.get(self.number - 1)
            if self.number % 3 == 0 and self.number < 3000:
                cache.put(self.number, None)
            if self.number % 5 == 0:
                cache.remove(self.number - 2)
            if self.number % 41 == 0:
                cache.clear()

    cache = make(implementation, max_entries=8, ttl=None, policy=policy)
    for number in range(300):
        cache.put(number, Value(number))
        cache.put(number, Value(number + 3000))
    cache.clear()
    assert sorted(finalised) == [*range(300), *range(3000, 3300)]
    assert len(cache.items()) == len(cache)


def test_finalisers_run_by_the_collector(implementation: Implementation) -> None:
    """Cycles in the cache are collected in the middle of anything, and their finalisers call it."""
    errors: list[str] = []

    class Knot:
        def __init__(self, number: int) -> None:
            self.number, self.self = number, self

        def __del__(self) -> None:
            try:
                cache.put(-self.number, None)
                cache.remove(self.number)
            except RuntimeError as error:  # the twin refuses; see its module
                errors.append(str(error))

    cache = make(implementation, max_entries=16, ttl=None)
    thresholds = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for number in range(1, 400):
            cache.put(number, Knot(number))
            cache.get(number - 3)
            cache.items()
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    assert len(cache.items()) == len(cache) <= 16
    assert implementation is Implementation.PYTHON or not errors


def test_errors_of_the_callers_code_leave_the_cache_as_it_was(implementation: Implementation, policy: Policy) -> None:
    broken = {"clock": False, "weigher": False}
    clock = Clock()

    def weigher(_key: object, _value: object) -> int:
        if broken["weigher"]:
            raise LookupError("weigher")
        return 1

    def ticking() -> float:
        if broken["clock"]:
            raise LookupError("clock")
        return clock()

    cache = make(implementation, max_entries=4, policy=policy, clock=ticking, weigher=weigher)
    for number in range(4):
        cache.put(number, number)
    before = (cache._snapshot(), cache._counters(), cache._segments())
    for part in broken:
        broken[part] = True
        with pytest.raises(LookupError, match=part):
            cache.put(9, 9)
        if part == "clock":
            for failing in (cache.get, cache.peek, cache.remove, cache.__contains__):
                with pytest.raises(LookupError, match=part):
                    failing(1)
            for whole in (cache.purge, cache.items):
                with pytest.raises(LookupError, match=part):
                    whole()
        broken[part] = False
    for bad in (-1, 1 << 48, 1 << 70):
        with pytest.raises(ValueError, match="weight"):
            cache.put(9, 9, weight=bad)
    for late in (0.0, -1.0, float("nan"), 5e6):
        with pytest.raises(ValueError, match="ttl"):
            cache.put(9, 9, late)
    with pytest.raises(TypeError):
        cache.put(9, 9, weight=1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unhashable"):
        cache.put([], 9)
    assert (cache._snapshot(), cache._counters(), cache._segments()) == before


def test_errors_of_a_listener_are_logged(implementation: Implementation, caplog: pytest.LogCaptureFixture) -> None:
    told = []

    def listener(key: int, _value: int, _cause: Cause) -> None:
        told.append(key)
        raise LookupError(f"about {key}")

    cache = make(implementation, max_entries=2, ttl=None, policy=Policy.LRU, listener=listener)
    for number in range(5):
        assert cache.put(number, number)
    assert told == [0, 1, 2]
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == [
        "about 0",
        "about 1",
        "about 2",
    ]


def test_an_interrupt_in_a_listener_passes_and_the_others_are_told(implementation: Implementation) -> None:
    told = []

    def listener(key: int, _value: int, _cause: Cause) -> None:
        told.append(key)
        if key == 1:
            raise KeyboardInterrupt

    cache = make(implementation, max_entries=4, ttl=None, policy=Policy.LRU, listener=listener)
    for number in range(4):
        cache.put(number, number)
    with pytest.raises(KeyboardInterrupt):
        cache.clear()
    assert told == [0, 1, 2, 3]
    assert len(cache) == 0


def test_threads(implementation: Implementation, policy: Policy) -> None:
    """Threads that switch as often as they can; nothing is lost or told twice."""
    notes = Notes()
    cache = make(implementation, max_entries=50, ttl=None, policy=policy, listener=notes)
    put: list[list[int]] = [[] for _ in range(4)]
    failures: list[BaseException] = []

    def work(worker: int) -> None:
        r = random.Random(worker)
        try:
            for step in range(600):
                key = r.randrange(120)
                if cache.get(HookedKey(key) if step % 7 == 0 else key) is None:
                    value = worker * 100_000 + step
                    cache.put(key, value)
                    put[worker].append(value)
                if step % 50 == 0:
                    cache.items()
                if step % 97 == 0:
                    cache.remove(key)
        except BaseException as error:
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert failures == []
    seen = Counter([value for _, value, _ in notes] + [value for _, value in cache.items()])
    assert seen == Counter(value for values in put for value in values)
