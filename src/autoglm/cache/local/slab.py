"""The implementation in C: :mod:`autoglm.cache.local._slab` under the shared interface."""

from __future__ import annotations

from autoglm.cache.local._slab import Core
from autoglm.cache.local.base import Clock, K, Listener, LocalCache, V, Weigher, core_arguments
from autoglm.cache.local.config import LocalConfig
from autoglm.cache.local.stats import CAUSES


class SlabCache(Core[K, V], LocalCache[K, V]):
    """See :class:`LocalCache`. Sections of C under the interpreter's lock; no lock of its own."""

    __slots__ = ("__weakref__", "config")

    def __init__(
        self,
        config: LocalConfig | None = None,
        *,
        weigher: Weigher[K, V] | None = None,
        listener: Listener[K, V] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.config = config or LocalConfig()
        max_weight, ttl_ms, policy, weigher, listener = core_arguments(self.config, weigher, listener)
        Core.__init__(
            self,
            self.config.max_entries,
            max_weight,
            ttl_ms,
            policy,
            self.config.statistics,
            weigher,
            listener,
            clock,
            CAUSES,
        )
