"""The environment, read here and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

MODEL_DIR = "AUTOGLM_MODEL_DIR"
API_KEYS = "AUTOGLM_API_KEYS"
REDIS_PASSWORD = "AUTOGLM_REDIS_PASSWORD"


def model_dir() -> Path | None:
    """``AUTOGLM_MODEL_DIR``: a folder of checkpoints, searched by name."""
    value = os.environ.get(MODEL_DIR)
    return Path(value) if value else None


def api_keys() -> tuple[str, ...]:
    """``AUTOGLM_API_KEYS``: accepted keys, separated by commas."""
    return tuple(key.strip() for key in os.environ.get(API_KEYS, "").split(",") if key.strip())


def redis_password() -> str | None:
    """``AUTOGLM_REDIS_PASSWORD``: not part of any URL, because command lines can be read by others."""
    return os.environ.get(REDIS_PASSWORD) or None
