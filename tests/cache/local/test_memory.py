"""What the cache costs, and that it gives everything back."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
import weakref
from pathlib import Path

import pytest

from autoglm.cache.local import Implementation, LocalCache, Policy
from autoglm.cache.local._slab import SLOT_BYTES
from tests.cache.local.helpers import Clock, make

ROOT = Path(__file__).parents[3]


class Value:
    """Something a weak reference can point at."""


class Holder:
    """A listener that holds its cache."""

    cache: LocalCache[object, object]

    def __call__(self, *_: object) -> None:
        self.cache.get(1)


@pytest.mark.parametrize("entries", [1000, 1024, 3000])
def test_bytes_per_entry(policy: Policy, entries: int) -> None:
    """All the cache allocates, policy included, beyond the keys and values."""
    pairs = [(f"key {n}", float(n)) for n in range(entries)]
    make(Implementation.SLAB, policy=policy)
    gc.collect()
    tracemalloc.start()
    try:
        cache = make(Implementation.SLAB, max_entries=entries, max_weight=1 << 40, policy=policy)
        for key, value in pairs:
            cache.put(key, value, weight=100)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(cache) == entries
    assert SLOT_BYTES == 48
    assert used / entries <= 72
    assert abs(sys.getsizeof(cache) - used) < 2500  # the Python objects around it are what differs


def test_every_way_out_frees_the_value(implementation: Implementation, policy: Policy) -> None:
    clock = Clock()
    cache: LocalCache[int, Value] = make(implementation, max_entries=8, ttl=10.0, policy=policy, clock=clock)
    references: list[weakref.ref[Value]] = []

    def put(into: LocalCache[int, Value], key: int) -> None:
        value = Value()
        references.append(weakref.ref(value))
        into.put(key, value)

    def alive() -> int:
        return sum(reference() is not None for reference in references)

    for key in range(8):
        put(cache, key)
    put(cache, 3)
    assert alive() == 8
    for key in range(100, 120):
        put(cache, key)
    assert alive() == 8 == len(cache)
    cache.remove(cache.keys()[0])
    assert alive() == 7
    clock.seconds += 20
    cache.get(next(key for key in range(120) if cache.remove(key) or len(cache) < 7))
    cache.purge()
    assert alive() == 0
    for key in range(8):
        put(cache, key)
    cache.resize(3)
    assert alive() == 3
    cache.clear()
    assert alive() == 0
    put(cache, 1)
    del cache
    gc.collect()  # the twin's nodes know their list and it knows them
    assert alive() == 0


def test_cycles_through_the_cache_are_collected(implementation: Implementation, policy: Policy) -> None:
    holder = Holder()
    cache = holder.cache = make(implementation, policy=policy, listener=holder, clock=Clock())
    value = Value()
    cache["self"] = cache
    cache["value"] = value
    value.cache = cache  # type: ignore[attr-defined]
    dead, gone = weakref.ref(cache), weakref.ref(value)
    del cache, value, holder
    gc.collect()
    assert dead() is None
    assert gone() is None


def test_a_cache_in_use_by_a_finaliser_while_it_is_collected() -> None:
    """The extension's object is emptied first: what calls it then finds an empty cache that takes nothing."""
    seen = []

    class Last:
        def __init__(self, cache: LocalCache[object, object]) -> None:
            self.cache = cache

    def look(cache: LocalCache[object, object]) -> None:
        seen.append((len(cache), cache.get("a"), cache.items()))

    class Loud:
        cache: LocalCache[object, object]

        def __del__(self) -> None:
            look(self.cache)

    cache: LocalCache[object, object] = make(Implementation.SLAB, max_entries=4)
    loud = Loud()
    loud.cache = cache
    cache["a"] = loud
    cache["b"] = Last(cache)
    del loud, cache
    gc.collect()
    assert len(seen) == 1


def test_no_growth(implementation: Implementation, policy: Policy) -> None:
    cache = make(implementation, max_entries=64, policy=policy, listener=lambda *_: None)

    def work(rounds: int) -> None:
        for number in range(rounds):
            key = number * 7919 % 257
            if cache.get(key) is None:
                cache.put(key, (key,), 5.0, 1)
            if number % 64 == 0:
                cache.items()
                cache.remove(key)
                cache.resize(64)
            if number % 500 == 0:
                cache.clear()
                cache.stats()

    work(1500)
    gc.collect()
    tracemalloc.start()
    try:
        work(500)
        before, _ = tracemalloc.get_traced_memory()
        work(2000)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 16_000


def test_under_the_debug_allocator() -> None:
    """The hostile suite again, with guards around every block and Python's own checks on."""
    suite = str(Path(__file__).with_name("test_reentrancy.py"))
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-m", "pytest", "-p", "no:cacheprovider", "-k", "slab", "-m", "not slow", suite],
        cwd=ROOT,
        env=os.environ | {"PYTHONMALLOC": "debug"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
