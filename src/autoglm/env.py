"""The environment, read here and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

MODEL_DIR = "AUTOGLM_MODEL_DIR"
API_KEYS = "AUTOGLM_API_KEYS"
ARTEFACTS = "AUTOGLM_ARTEFACTS"


def model_dir() -> Path | None:
    """``AUTOGLM_MODEL_DIR``: a folder of checkpoints, searched by name."""
    value = os.environ.get(MODEL_DIR)
    return Path(value) if value else None


def api_keys() -> tuple[str, ...]:
    """``AUTOGLM_API_KEYS``: accepted keys, separated by commas."""
    return tuple(key.strip() for key in os.environ.get(API_KEYS, "").split(",") if key.strip())


def artefacts() -> Path:
    """``AUTOGLM_ARTEFACTS``: where tests leave what people may want to look at, such as screenshots."""
    return Path(os.environ.get(ARTEFACTS) or ".cache/artefacts")
