"""The environment, read here and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

MODEL_DIR = "AUTOGLM_MODEL_DIR"
API_KEYS = "AUTOGLM_API_KEYS"
REDIS_URL = "AUTOGLM_REDIS_URL"


def model_dir() -> Path | None:
    """``AUTOGLM_MODEL_DIR``: a folder of checkpoints, searched by name."""
    value = os.environ.get(MODEL_DIR)
    return Path(value) if value else None


def api_keys() -> tuple[str, ...]:
    """``AUTOGLM_API_KEYS``: accepted keys, separated by commas."""
    return tuple(key.strip() for key in os.environ.get(API_KEYS, "").split(",") if key.strip())


def redis_url() -> str | None:
    """``AUTOGLM_REDIS_URL``: the shared cache store, with its password if it has one."""
    return os.environ.get(REDIS_URL) or None
