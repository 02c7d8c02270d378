"""What a first-level cache counts, and why entries leave it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Cause(StrEnum):
    """Why a value left. The order is the one both implementations count in.

    Attributes:
        EXPLICIT: removed or cleared by the caller.
        REPLACED: another value was put under its key.
        SIZE: evicted, too many entries.
        WEIGHT: evicted, too many bytes; or heavier by itself than the whole cache may be.
        EXPIRED: its time was over.
    """

    EXPLICIT = "explicit"
    REPLACED = "replaced"
    SIZE = "size"
    WEIGHT = "weight"
    EXPIRED = "expired"


CAUSES = tuple(Cause)
EVICTIONS = (Cause.SIZE, Cause.WEIGHT, Cause.EXPIRED)

Counts = tuple[int, int, int, int, int, float, int, int, int, tuple[int, int, int, int, int]]


@dataclass(frozen=True, slots=True)
class LocalStats:
    """Since the cache was made; a snapshot.

    Attributes:
        entries, weight: in the cache now; weight in bytes.
        hits, misses: of ``get``, ``cache[key]`` and ``get_or_load``; ``peek`` and ``in`` do not count.
        inserts: values put, also such as did not stay.
        loads, load_failures, load_seconds: of ``get_or_load``; a failure is a load too.
        removed: values that left, by cause.
        hit_age_seconds: sum over hits of the time since the value was written.
        evicted_age_seconds: the same, over evictions.
    """

    entries: int
    max_entries: int
    weight: int
    max_weight: int | None
    hits: int
    misses: int
    inserts: int
    loads: int
    load_failures: int
    load_seconds: float
    removed: dict[Cause, int]
    hit_age_seconds: float
    evicted_age_seconds: float

    @property
    def hit_rate(self) -> float:
        """Hits per look-up, 0 without any."""
        return self.hits / max(self.hits + self.misses, 1)

    @property
    def evictions(self) -> int:
        """Values the cache gave up by itself."""
        return sum(self.removed[cause] for cause in EVICTIONS)

    @property
    def mean_hit_age(self) -> float:
        """Seconds since the write, of what was served."""
        return self.hit_age_seconds / max(self.hits, 1)

    @property
    def mean_evicted_age(self) -> float:
        """Seconds since the write, of what was evicted."""
        return self.evicted_age_seconds / max(self.evictions, 1)

    @property
    def mean_load_seconds(self) -> float:
        """Seconds per load."""
        return self.load_seconds / max(self.loads, 1)


def from_counts(counts: Counts, entries: int, max_entries: int, max_weight: int | None) -> LocalStats:
    """The statistics out of an implementation's raw counts (microseconds where an age is meant)."""
    hits, misses, inserts, loads, failures, seconds, hit_age, removed_age, weight, removed = counts
    return LocalStats(
        entries=entries,
        max_entries=max_entries,
        weight=weight,
        max_weight=max_weight,
        hits=hits,
        misses=misses,
        inserts=inserts,
        loads=loads,
        load_failures=failures,
        load_seconds=seconds,
        removed=dict(zip(CAUSES, removed, strict=True)),
        hit_age_seconds=hit_age / 1e6,
        evicted_age_seconds=removed_age / 1e6,
    )
