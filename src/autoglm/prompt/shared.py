"""What replicas share of prompt building, in Redis: scaled screens and the ids of long texts, each by content."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autoglm.cache.tiered import ArrayCodec, SharedConfig, StructCodec, TieredCache, TieredConfig, open_shared
from autoglm.messages.events import CacheStats

if TYPE_CHECKING:
    from autoglm.cache.tiered.shared import SharedLevel

LONG_TEXT = 1024
"""Characters from which on asking Redis takes less time than tokenising."""
_TTL = 600.0
_LEASE = 2.0
"""Seconds for which other replicas wait for one that decodes the same file."""


class ScreenCodec(ArrayCodec):
    """RGB pixels, uint8 ``[height, width, 3]``; anything else is refused."""

    tag = "screen"

    def decode(self, body: bytes) -> NDArray[Any]:
        pixels = super().decode(body)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise ValueError(f"not a screen: {pixels.dtype} {pixels.shape}")
        return pixels


class SharedPrompts:
    """The second level of :class:`ImagePipeline` and :class:`TokenCache`; their own memories are the first.

    Those hold what a prompt needs, a screen's normalised pixels among it. Here lies what that is made of: a screen's
    scaled bytes are an eighth of its patch rows. Keys are digests of everything a value depends on, so nothing here
    ever becomes wrong, and a copy needs no invalidation. Thread-safe. Whatever goes wrong with Redis costs a miss.

    Raises:
        InvalidInputError: the URL is not one of Redis, or the client is not installed.
    """

    def __init__(self, url: str, *, password: str | None = None, namespace: str = "autoglm") -> None:
        config = SharedConfig(url=url, password=password, namespace=namespace, workers=1)
        self.level: SharedLevel = open_shared(config)
        self.images: TieredCache[NDArray[np.uint8]] = TieredCache(_config("images"), ScreenCodec(), shared=self.level)
        self.texts: TieredCache[list[int]] = TieredCache(
            _config("texts"), StructCodec(list[int], "ids"), shared=self.level
        )

    def stats(self) -> list[CacheStats]:
        """``images_redis`` and ``texts_redis``: look-ups that the first level did not answer."""
        return [_figures(cache) for cache in (self.images, self.texts)]

    def close(self) -> None:
        """Let go of threads and connections."""
        self.images.close()
        self.texts.close()
        self.level.close()


def content_key(*parts: bytes) -> str:
    """The name of what is made of ``parts``, in any process."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "little") + part)
    return whole.hexdigest()


def _config(name: str) -> TieredConfig:
    return TieredConfig(name=name, ttl=_TTL, refresh_at=1.0, load_lease=_LEASE, max_entries=0, immutable=True)


def _figures(cache: TieredCache[Any]) -> CacheStats:
    counters = cache.counters.snapshot()
    causes = ("load_failures", "not_stored", "unreadable", "joined", "waits")
    return CacheStats(
        name=f"{cache.config.name}_redis",
        hits=int(counters["shared_hits"]),
        misses=int(counters["misses"]),
        evictions=0,  # Redis ends entries by their time, or by its own policy
        entries=0,
        bytes=0,
        capacity_bytes=0,
        loads=int(counters["loads"]),
        load_seconds=counters["load_seconds"],
        causes={name: int(counters[name]) for name in causes},
    )
