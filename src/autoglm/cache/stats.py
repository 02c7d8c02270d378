"""Counters that every cache keeps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Since start. A hit or miss is counted in the cache's own unit: tokens for KV, images for features."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0
