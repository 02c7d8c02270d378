"""The environment, read here and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

MODEL_DIR = "AUTOGLM_MODEL_DIR"
API_KEYS = "AUTOGLM_API_KEYS"
CACHE_DIR = "AUTOGLM_CACHE_DIR"


def model_dir() -> Path | None:
    """``AUTOGLM_MODEL_DIR``: a folder of checkpoints, searched by name."""
    value = os.environ.get(MODEL_DIR)
    return Path(value) if value else None


def api_keys() -> tuple[str, ...]:
    """``AUTOGLM_API_KEYS``: accepted keys, separated by commas."""
    return tuple(key.strip() for key in os.environ.get(API_KEYS, "").split(",") if key.strip())


def cache_dir() -> Path:
    """``AUTOGLM_CACHE_DIR``, else ``autoglm`` in the user's cache folder: what can be made again at any time."""
    value = os.environ.get(CACHE_DIR)
    if value:
        return Path(value)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autoglm"
