"""Configuration of a first-level cache."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from autoglm.errors import InvalidInputError

MAX_ENTRIES = 1 << 29
MAX_WEIGHT = (1 << 48) - 1
TTL_LIMIT = 4294967.0
FOREVER_MS = (1 << 32) - 1


class Policy(StrEnum):
    """Which entry leaves when there is no room.

    Attributes:
        LRU: the least recently used.
        LFU: the least frequently used; ties: the least recently used of them.
        ADAPTIVE: window, segmented LRU and frequency sketch (W-TinyLFU, Einziger et al. 2017); the window's share is
            chosen by small shadow caches over a sample of the keys (Mini-Sim, Waldspurger et al. 2017).
    """

    LRU = "lru"
    LFU = "lfu"
    ADAPTIVE = "adaptive"


class Implementation(StrEnum):
    """``SLAB`` is the C extension, ``PYTHON`` its twin; ``AUTO``: the extension if it was built."""

    AUTO = "auto"
    SLAB = "slab"
    PYTHON = "python"


@dataclass(frozen=True, slots=True)
class LocalConfig:
    """Limits and switches; :class:`InvalidInputError` names the field that is out of range.

    Attributes:
        max_entries: 0 turns the cache off: everything is taken in and let go at once.
        max_weight: sum of the entries' weights in bytes; ``None``: no limit.
        ttl: seconds after the write at which an entry expires; ``None``: never. Rounded up to milliseconds.
        statistics: whether hits, misses and the rest are counted.
    """

    max_entries: int = 1000
    max_weight: int | None = None
    ttl: float | None = 600.0
    policy: Policy = Policy.ADAPTIVE
    statistics: bool = True
    implementation: Implementation = Implementation.AUTO

    def __post_init__(self) -> None:
        check_limits(self.max_entries, self.max_weight)
        if self.ttl is not None and not 0 < self.ttl < TTL_LIMIT:
            raise InvalidInputError(
                "ttl must be above 0 and below the limit, or None for never",
                field="ttl",
                limit=TTL_LIMIT,
                value=self.ttl,
            )

    @property
    def ttl_ms(self) -> int:
        """Milliseconds, :data:`FOREVER_MS` for never."""
        return FOREVER_MS if self.ttl is None else math.ceil(self.ttl * 1000)


def check_limits(max_entries: int, max_weight: int | None) -> None:
    """Raise :class:`InvalidInputError` for a limit that no cache can have."""
    if not 0 <= max_entries <= MAX_ENTRIES:
        raise InvalidInputError(
            "max_entries is out of range", field="max_entries", limit=MAX_ENTRIES, value=max_entries
        )
    if max_weight is not None and not 0 <= max_weight <= MAX_WEIGHT:
        raise InvalidInputError("max_weight is out of range", field="max_weight", limit=MAX_WEIGHT, value=max_weight)
