"""One of the processes of the coherence check: writes, loads and reads, and compares what it reads with the truth."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

from autoglm.cache.tiered import BytesCodec, SharedConfig, TieredCache, TieredConfig
from autoglm.cache.tiered.link import LinkState
from autoglm.cache.tiered.shared import SharedLevel

KEYS = 1000
TIMES = 64  # versions of a key whose time is remembered
LEASE = 1.0
BATCH = 50
PREFETCHED = 0.75
"""Share of the batches that are checked with one round trip to Redis; the rest are asked for key by key."""
_PATIENCE = 60.0


class Numbers(Protocol):
    """A shared array."""

    def __getitem__(self, index: int) -> Any: ...
    def __setitem__(self, index: int, value: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Truth:
    """Shared by all processes; each key is written by one.

    Attributes:
        version: of each key at the source. told: the last one that a write or removal was confirmed for.
        times: ``[key * TIMES + version % TIMES]``: when that was, on the system's monotonic clock.
    """

    version: Numbers
    told: Numbers
    times: Numbers

    def confirmed(self, key: int, version: int) -> None:
        self.times[key * TIMES + version % TIMES] = time.monotonic()
        self.told[key] = version

    def outdated_at(self, key: int, version: int) -> float:
        """When the first version after ``version`` was confirmed, as far back as remembered."""
        newer = range(max(version + 1, self.told[key] - TIMES + 2), self.told[key] + 1)
        return min((t for t in (self.times[key * TIMES + v % TIMES] for v in newer) if t), default=time.monotonic())


@dataclass(slots=True)
class Tally:
    """What one process saw.

    Attributes:
        checks: values served by either level when all was quiet, one for each key, process and round. stale: of these,
            such as were not the truth. local: such as the first level served.
        reads: in the storm. late: of these, values outdated when the read began. worst: seconds, of these.
        errors: exceptions that reached a caller.
    """

    checks: int = 0
    stale: int = 0
    local: int = 0
    reads: int = 0
    writes: int = 0
    late: int = 0
    worst: float = 0.0
    beyond: int = 0
    errors: int = 0
    losses: int = 0


class Worker:
    """One process's cache and its share of the keys."""

    def __init__(self, url: str, number: int, count: int, seed: int, truth: Truth) -> None:
        config = SharedConfig(url=url, heartbeat=0.05, lease=LEASE, operation_timeout=0.5, max_probe=0.05)
        self.shared = SharedLevel(config)
        self.cache = TieredCache(
            TieredConfig(name="coherence", ttl=20, jitter=0.5, max_entries=2 * KEYS, load_lease=2, refresh_at=1.0),
            BytesCodec(),
            shared=self.shared,
        )
        self.truth = truth
        self.mine = range(number, KEYS, count)
        self.rng = random.Random(f"{seed}-{number}")
        self.tally = Tally()

    def storm(self, seconds: float) -> None:
        """Reads, loads, writes and removals; many copies at once now and then."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                draw = self.rng.random()
                if draw < 0.03:
                    self.cache.prefetch(str(key) for key in self.rng.sample(range(KEYS), BATCH))
                elif draw < 0.7:
                    self._read(self.rng.randrange(KEYS))
                else:
                    self._write(self.rng.choice(self.mine), remove=draw > 0.9)
            except Exception:
                self.tally.errors += 1

    def settle(self) -> None:
        """Until the store answers and has been told everything."""
        _wait(lambda: self.shared.settled)

    def drain(self) -> None:
        """Until every push of before has been handled."""
        start = time.monotonic()
        link = self.shared.link
        _wait(lambda: link.state is LinkState.UP and link.fresh_until > start + LEASE)

    def check(self) -> None:
        """Every key once, from the first level or Redis. What is missing is loaded, so that the next storm meets it.

        A loaded value is no check, nor is a second look at a copy made just now: both could not but be right.
        """
        for start in range(0, KEYS, BATCH):
            keys = range(start, min(start + BATCH, KEYS))
            held = {key for key in keys if self.cache.copies.get(str(key), self.cache.copies.clock()) is not None}
            if self.rng.random() < PREFETCHED:
                self.cache.prefetch(str(key) for key in keys if key not in held)
            for key in keys:
                self._check(key, held=key in held)

    def _check(self, key: int, *, held: bool) -> None:
        found = self.cache.get(str(key))
        if found is not None:
            self.tally.checks += 1
            self.tally.local += held
            if int(found) != self.truth.version[key]:
                self.tally.stale += 1
                self._explain(key, int(found))
        elif key in self.mine:
            self.cache.get_or_load(str(key), self._load(key))

    def _explain(self, key: int, found: int) -> None:
        now = self.cache.copies.clock()
        copy = self.cache.copies.get(str(key), now)
        where = "store" if copy is None else f"copy of {now - copy.at:.3f} s, backed: {copy.backed}"
        print(f"stale: key {key} is {self.truth.version[key]}, served {found}, {where}", flush=True)

    def _read(self, key: int) -> None:
        floor, start = self.truth.told[key], time.monotonic()
        found = self.cache.get_or_load(str(key), self._load(key))
        self.tally.reads += 1
        version = -1 if found is None else int(found)
        if version < floor:
            age = start - self.truth.outdated_at(key, version)
            self.tally.late += 1
            self.tally.worst = max(self.tally.worst, age)
            self.tally.beyond += age > LEASE

    def _load(self, key: int) -> Callable[[str], bytes]:
        return lambda _: b"%d" % self.truth.version[key]

    def _write(self, key: int, *, remove: bool) -> None:
        version = self.truth.version[key] + 1
        self.truth.times[key * TIMES + version % TIMES] = 0.0
        self.truth.version[key] = version
        ttl = self.rng.choice([0.05, 0.3, 30.0, 30.0])
        name = str(key)
        done = self.cache.invalidate(name) if remove else self.cache.put(name, b"%d" % version, ttl=ttl)
        self.tally.writes += 1
        if done:
            self.truth.confirmed(key, version)


def main(pipe: Connection, url: str, number: int, count: int, seed: int, truth: Truth) -> None:
    """Obey the parent until it says stop; each command is answered with the tally so far."""
    worker = Worker(url, number, count, seed, truth)
    while (command := pipe.recv())[0] != "stop":
        getattr(worker, command[0])(*command[1:])
        worker.tally.losses = worker.shared.link.losses
        pipe.send(worker.tally)
    worker.cache.close()
    worker.shared.close()


def _wait(condition: Any) -> None:
    end = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("not quiet in time")
        time.sleep(0.002)
