"""The environment, read here and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path


def model_directory() -> Path | None:
    """``AUTOGLM_MODEL_DIR``: a folder of checkpoints, searched by name."""
    value = os.environ.get("AUTOGLM_MODEL_DIR")
    return Path(value) if value else None


def api_keys() -> tuple[str, ...]:
    """``AUTOGLM_API_KEYS``: accepted keys, separated by commas."""
    return tuple(key.strip() for key in os.environ.get("AUTOGLM_API_KEYS", "").split(",") if key.strip())
