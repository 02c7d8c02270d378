"""Figures of one cache, by level."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from autoglm.cache.tiered.config import TieredConfig

if TYPE_CHECKING:
    from autoglm.cache.tiered.shared import SharedLevel


class SharedStats(Struct, frozen=True, kw_only=True):
    """The shared level of a process: all its caches together.

    Attributes:
        address: without user and password.
        link, breaker: their states.
        link_losses, pushes: of the tracking link. opened: times the breaker did.
        last_outage: seconds from the breaker's last opening to its closing.
        pending: removals waiting for the server. counters: operations, errors, and those not tried.
    """

    address: str
    link: str
    breaker: str
    link_losses: int
    pushes: int
    opened: int
    last_outage: float
    pending: int
    counters: dict[str, float]


class TieredStats(Struct, frozen=True, kw_only=True):
    """One cache. Totals since start, times in seconds.

    Attributes:
        local: entries, bytes and removals by cause of the first level.
        counters: reads by where they were answered, loads, load time, joined flights, refreshes, dropped fills.
        hit_rate: share of reads answered by either level; 0 before the first read.
    """

    name: str
    ttl: float
    max_entries: int
    max_bytes: int
    hit_rate: float
    loading: int
    local: dict[str, float]
    counters: dict[str, float]


def stats_of(config: TieredConfig, totals: dict[str, float], local: dict[str, float], loading_now: int) -> TieredStats:
    """A snapshot."""
    hits = totals["local_hits"] + totals["shared_hits"]
    reads = hits + totals["misses"]
    return TieredStats(
        name=config.name,
        ttl=config.ttl,
        max_entries=config.max_entries,
        max_bytes=config.max_bytes,
        hit_rate=hits / reads if reads else 0.0,
        loading=loading_now,
        local=local,
        counters=totals,
    )


def shared_stats(shared: SharedLevel) -> SharedStats:
    """A snapshot."""
    return SharedStats(
        address=shared.address,
        link=shared.link.state.value,
        breaker=shared.breaker.state.value,
        link_losses=shared.link.losses,
        pushes=shared.link.pushes,
        opened=shared.breaker.opened,
        last_outage=shared.breaker.last_outage,
        pending=len(shared.pending),
        counters=shared.counters.snapshot(),
    )
