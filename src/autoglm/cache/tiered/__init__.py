"""Two levels: a first level in every process, in front of one Redis that they share. See ``docs/caches/tiered.md``."""

from autoglm.cache.breaker import BreakerState
from autoglm.cache.tiered.aio import AsyncTieredCache
from autoglm.cache.tiered.codec import ArrayCodec, BytesCodec, Codec, StructCodec
from autoglm.cache.tiered.config import SharedConfig, TieredConfig
from autoglm.cache.tiered.flights import RecursiveLoadError
from autoglm.cache.tiered.found import Status
from autoglm.cache.tiered.opening import open_shared
from autoglm.cache.tiered.stats import SharedStats, TieredStats, shared_stats
from autoglm.cache.tiered.tiered import TieredCache

__all__ = [
    "ArrayCodec",
    "AsyncTieredCache",
    "BreakerState",
    "BytesCodec",
    "Codec",
    "RecursiveLoadError",
    "SharedConfig",
    "SharedStats",
    "Status",
    "StructCodec",
    "TieredCache",
    "TieredConfig",
    "TieredStats",
    "open_shared",
    "shared_stats",
]
