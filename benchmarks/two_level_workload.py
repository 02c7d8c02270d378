"""The workload of the two-level benchmark, and one pass of it over a cache."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoglm.cache.tiered import TieredCache

KEYS = 10_000
EXPONENT = 0.99
MISS_SECONDS = 0.0929
VALUE_BYTES = 1024
DRIFT_EVERY = 100
INVALIDATE_EVERY = 1000
EARLY = 0.05


class Workload:
    """Seeded requests: Zipf over keys whose ranks drift. One workload goes on over several passes.

    Every ``DRIFT_EVERY`` requests, a key of the hundred most asked for changes places with any key; every
    ``INVALIDATE_EVERY``, the key asked for is invalidated before it is asked for.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._order = self._rng.permutation(KEYS)
        weights = 1.0 / np.arange(1, KEYS + 1) ** EXPONENT
        self._shares = np.cumsum(weights / weights.sum())

    def take(self, count: int) -> NDArray[np.int64]:
        """The next ``count`` keys."""
        ranks = np.searchsorted(self._shares, self._rng.random(count))
        keys = np.empty(count, np.int64)
        for start in range(0, count, DRIFT_EVERY):
            part = slice(start, start + DRIFT_EVERY)
            keys[part] = self._order[np.minimum(ranks[part], KEYS - 1)]
            one, other = self._rng.integers(100), self._rng.integers(KEYS)
            self._order[[one, other]] = self._order[[other, one]]
        return keys


@dataclass(frozen=True, slots=True)
class Pass:
    """Shares of all requests, and seconds a request took, loads counted with their simulated time."""

    local: float
    shared: float
    loaded: float
    early_hits: float
    mean: float
    p99: float
    own_mean: float
    cpu_mean: float

    @property
    def hits(self) -> float:
        return self.local + self.shared


def play(cache: TieredCache[bytes], keys: NDArray[np.int64]) -> Pass:
    """One request after the other. The loader is not waited for: its time is added."""
    loads = 0

    def loader(key: str) -> bytes:
        nonlocal loads
        loads += 1
        return key.encode().ljust(VALUE_BYTES, b".")

    times = np.empty(len(keys))
    missed = np.zeros(len(keys), bool)
    before, cpu = cache.counters.snapshot(), time.process_time()
    for index, key in enumerate(map(str, keys.tolist())):
        if index % INVALIDATE_EVERY == INVALIDATE_EVERY - 1:
            cache.invalidate(key)
        had, start = loads, time.perf_counter()
        cache.get_or_load(key, loader)
        times[index] = time.perf_counter() - start
        missed[index] = loads > had
    after, cpu = cache.counters.snapshot(), time.process_time() - cpu
    whole = times + missed * MISS_SECONDS
    early = int(len(keys) * EARLY)
    return Pass(
        local=(after["local_hits"] - before["local_hits"]) / len(keys),
        shared=(after["shared_hits"] - before["shared_hits"]) / len(keys),
        loaded=float(missed.mean()),
        early_hits=1 - float(missed[:early].mean()),
        mean=float(whole.mean()),
        p99=float(np.quantile(whole, 0.99)),
        own_mean=float(times.mean()),
        cpu_mean=cpu / len(keys),
    )
