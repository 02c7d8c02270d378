"""How often each level of the caches had what was asked for, over the last minutes."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from autoglm.errors import EngineUnavailableError
from autoglm.messages import CacheStats, Stats
from autoglm.server.caching.caches import ServerCaches
from autoglm.server.link import EngineLink

log = logging.getLogger(__name__)

Totals = tuple[int, int]
"""Hits and look-ups since start, in the level's own unit: tokens for the KV, pieces for the rest."""
Readings = Mapping[str, Totals | None]
"""By level: ``None``: it is switched off; left out: nobody knows at the moment."""

ENGINE = ("kv_prefix", "kv_host", "visual_features", "processed_images", "prompt_tokens")
SERVER = ("local", "redis", "dialogue")
LEVELS = ENGINE + SERVER
INTERVAL = 3.0
"""Seconds between two readings."""
KEPT = 120
"""Readings remembered: six minutes."""


class HitHistory:
    """What was hit and looked up between readings, for the last ``kept`` of them. Belongs to one event loop."""

    def __init__(self, kept: int = KEPT) -> None:
        self._samples: deque[dict[str, Totals]] = deque(maxlen=kept)
        self._before: dict[str, Totals] = {}
        self._on: dict[str, bool] = dict.fromkeys(LEVELS, False)

    def add(self, readings: Readings) -> None:
        """One more reading. Totals that have shrunk are those of a process that was started again."""
        sample: dict[str, Totals] = {}
        for name, now in readings.items():
            self._on[name] = now is not None
            if now is None:
                continue
            before = self._before.get(name, (0, 0))
            if now[0] < before[0] or now[1] < before[1]:
                before = (0, 0)
            sample[name] = now[0] - before[0], now[1] - before[1]
            self._before[name] = now
        self._samples.append(sample)

    def fields(self) -> dict[str, Any]:
        """As JSON: of each level whether it is on, and two lists, oldest first, with null where nothing is known."""
        levels = []
        for name in LEVELS:
            column = [sample.get(name) for sample in self._samples]
            hits = [None if each is None else each[0] for each in column]
            lookups = [None if each is None else each[1] for each in column]
            levels.append({"name": name, "on": self._on[name], "hits": hits, "lookups": lookups})
        return {"interval": INTERVAL, "kept": self._samples.maxlen, "levels": levels}


def of_engine(stats: Stats) -> dict[str, Totals | None]:
    """The levels in the engine's process; a cache without room is off."""
    found = {cache.name: cache for cache in stats.caches if cache.capacity_bytes}
    return {name: _totals(found[name]) if name in found else None for name in ENGINE}


def redis_of_engine(stats: Stats) -> Totals | None:
    """What the engine's process found in Redis: KV blocks and visual features, scaled screens, tokenised texts."""
    found = [_totals(cache) for cache in stats.caches if cache.name.endswith("_redis")]
    return (sum(hits for hits, _ in found), sum(lookups for _, lookups in found)) if found else None


def together(one: Totals | None, other: Totals | None) -> Totals | None:
    """Both; ``None`` where both are off."""
    if one is None or other is None:
        return one or other
    return one[0] + other[0], one[1] + other[1]


def of_server(caches: ServerCaches) -> dict[str, Totals | None]:
    """The levels in the server's process: the first level, Redis behind it, and the dialogues' answers."""
    tiered = caches.figures()["tiered"]
    counters = [cache.counters for cache in tiered]
    local, shared, misses = (int(sum(c[n] for c in counters)) for n in ("local_hits", "shared_hits", "misses"))
    asked = caches.dialogue.counters
    dialogue = int(asked["hits"]), int(asked["hits"] + asked["misses"])
    return {
        "local": (local, local + shared + misses) if any(cache.max_entries for cache in tiered) else None,
        "redis": None if caches.shared is None else (shared, shared + misses),
        "dialogue": dialogue if caches.config.responses else None,
    }


async def read(link: EngineLink, caches: ServerCaches) -> Readings:
    """All levels now, without the engine's while it is away."""
    found = of_server(caches)
    try:
        stats = await link.stats()
    except EngineUnavailableError:
        return {name: level for name, level in found.items() if name != "redis"}  # half of it is the engine's
    return found | of_engine(stats) | {"redis": together(found["redis"], redis_of_engine(stats))}


async def watch(history: HitHistory, read: Callable[[], Awaitable[Readings]], interval: float = INTERVAL) -> None:
    """Add a reading now and every ``interval`` seconds, until cancelled."""
    while True:
        try:
            history.add(await read())
        except Exception:
            log.exception("the caches' figures could not be read")
        await asyncio.sleep(interval)


def _totals(cache: CacheStats) -> Totals:
    return cache.hits, cache.hits + cache.misses
