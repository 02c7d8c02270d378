"""Counters that every cache keeps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Since start. A hit or miss is counted in the cache's own unit: tokens for KV, images for features.

    ``hit_age_seconds``: sum over hits of the time since what was hit was computed; ``evicted_age_seconds``: the same
    over evictions.
    """

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    hit_age_seconds: float = 0.0
    evicted_age_seconds: float = 0.0
