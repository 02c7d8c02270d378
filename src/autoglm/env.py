"""The environment, read here and nowhere else."""

from __future__ import annotations

import ctypes
import logging
import os
from importlib.util import find_spec
from pathlib import Path

from autoglm.errors import InvalidInputError

MODEL_DIR = "AUTOGLM_MODEL_DIR"
API_KEYS = "AUTOGLM_API_KEYS"
API_KEY = "AUTOGLM_API_KEY"
ADB_HOST = "ANDROID_ADB_SERVER_HOST"
ADB_PORT = "ANDROID_ADB_SERVER_PORT"
ARTEFACTS = "AUTOGLM_ARTEFACTS"
CACHE_DIR = "AUTOGLM_CACHE_DIR"
CACHE = "AUTOGLM_CACHE"
REDIS_URL = "AUTOGLM_REDIS_URL"
REDIS_PASSWORD = "AUTOGLM_REDIS_PASSWORD"

log = logging.getLogger(__name__)


def model_dir() -> Path | None:
    """``AUTOGLM_MODEL_DIR``: a folder of checkpoints, searched by name."""
    value = os.environ.get(MODEL_DIR)
    return Path(value) if value else None


def api_keys() -> tuple[str, ...]:
    """``AUTOGLM_API_KEYS``: accepted keys, separated by commas."""
    return tuple(key.strip() for key in os.environ.get(API_KEYS, "").split(",") if key.strip())


def redis_url() -> str | None:
    """``AUTOGLM_REDIS_URL``: the cache store that servers share."""
    return os.environ.get(REDIS_URL) or None


def api_key() -> str | None:
    """``AUTOGLM_API_KEY``: the key that the agent sends to its model's server."""
    return os.environ.get(API_KEY, "").strip() or None


def adb_server() -> tuple[str, int]:
    """Host and port of the ADB server, from the variables that ``adb`` itself reads.

    Raises:
        InvalidInputError: the port is no port.
    """
    port = os.environ.get(ADB_PORT, "5037")
    if not (port.isdecimal() and 0 < int(port[:9]) < 65536):
        raise InvalidInputError(f"{ADB_PORT} must be a port number", field=ADB_PORT, value=port)
    return os.environ.get(ADB_HOST) or "127.0.0.1", int(port)


def artefacts() -> Path:
    """``AUTOGLM_ARTEFACTS``: where tests leave what people may want to look at, such as screenshots."""
    return Path(os.environ.get(ARTEFACTS) or ".cache/artefacts")


def cache_dir() -> Path:
    """``AUTOGLM_CACHE_DIR``, else ``autoglm`` in the user's cache folder: what can be made again at any time."""
    value = os.environ.get(CACHE_DIR)
    if value:
        return Path(value)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autoglm"


def cache_implementation() -> str:
    """``AUTOGLM_CACHE``: ``auto`` (also when unset), ``slab`` or ``python``, for caches that do not say themselves."""
    return os.environ.get(CACHE) or "auto"


def redis_password() -> str | None:
    """``AUTOGLM_REDIS_PASSWORD``: not part of any URL, because command lines can be read by others."""
    return os.environ.get(REDIS_PASSWORD) or None


def compiled_library(module: str, version: str, abi: int) -> ctypes.CDLL | None:
    """A library that was built with the package, where a C compiler was at hand.

    Args:
        version: its function that gives the interface's number; abi: the number that fits these sources.

    Returns ``None`` if it was not built, or built from other sources; the log says why.
    """
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return None
    try:
        found = ctypes.CDLL(spec.origin)
        built = getattr(found, version)()
    except (OSError, AttributeError) as error:
        log.warning("%s cannot be used: %s", spec.origin, error)
        return None
    if built != abi:
        log.warning("%s is of another version (%s, not %s); install the package again", spec.origin, built, abi)
        return None
    return found
