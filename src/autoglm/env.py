"""The environment, read here and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

MODEL_DIR = "AUTOGLM_MODEL_DIR"
API_KEYS = "AUTOGLM_API_KEYS"
CACHE = "AUTOGLM_CACHE"


def model_dir() -> Path | None:
    """``AUTOGLM_MODEL_DIR``: a folder of checkpoints, searched by name."""
    value = os.environ.get(MODEL_DIR)
    return Path(value) if value else None


def api_keys() -> tuple[str, ...]:
    """``AUTOGLM_API_KEYS``: accepted keys, separated by commas."""
    return tuple(key.strip() for key in os.environ.get(API_KEYS, "").split(",") if key.strip())


def cache_implementation() -> str:
    """``AUTOGLM_CACHE``: ``auto`` (also when unset), ``slab`` or ``python``, for caches that do not say themselves."""
    return os.environ.get(CACHE) or "auto"
