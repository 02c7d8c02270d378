"""From what a user types to a directory with a checkpoint."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from autoglm import env
from autoglm.errors import CheckpointNotFoundError

PACKAGED = "autoglm-phone-mini"
"""The small model that comes with the package."""
ALIASES = {"autoglm-phone-9b": "zai-org/AutoGLM-Phone-9B"}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_FILES = ["*.json", "*.safetensors", "*.jinja"]


def resolve_checkpoint(name_or_path: str | Path) -> Path:
    """Find a checkpoint.

    The order: the packaged model by its name; a directory; a name under ``AUTOGLM_MODEL_DIR``; a Hugging Face hub id.

    Raises:
        CheckpointNotFoundError: it is at none of these; the message lists each place and what to do.
    """
    name = str(name_or_path)
    looked: list[str] = []
    path = Path(name).expanduser()
    for place in (*_packaged(name), path, *_named(name)):
        if (place / "config.json").is_file():
            return place
        state = "no config.json in it" if place.is_dir() else "no such directory"
        looked.append(f"{place} ({state})")
    if env.model_dir() is None:
        looked.append(f"${env.MODEL_DIR} (not set)")
    hub_id = ALIASES.get(name.lower(), name)
    if _HUB_ID.fullmatch(hub_id) and not path.is_dir():
        found = _from_hub(hub_id, looked)
        if found is not None:
            return found
    raise CheckpointNotFoundError(
        f"no checkpoint {name!r}; looked at: {'; '.join(looked)}. Give the path of a checkpoint directory, "
        f"set {env.MODEL_DIR} to the directory that holds it, or install autoglm[hub] and give a hub id such "
        f"as {ALIASES['autoglm-phone-9b']}",
        field="model",
        value=name[:200],
    )


def _packaged(name: str) -> list[Path]:
    """The folder in the package for the one name that it has."""
    return [Path(str(files("autoglm").joinpath("models", name)))] if name == PACKAGED else []


def _named(name: str) -> list[Path]:
    """Places under ``AUTOGLM_MODEL_DIR`` for a name, its alias' id, and that id's last part."""
    root = env.model_dir()
    if root is None or Path(name).is_absolute() or ".." in Path(name).parts:
        return []
    hub_id = ALIASES.get(name.lower(), name)
    return [root / part for part in dict.fromkeys((name, hub_id, hub_id.rpartition("/")[2])) if part]


def _from_hub(hub_id: str, looked: list[str]) -> Path | None:
    where = f"Hugging Face hub {hub_id}"
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        looked.append(f"{where} (huggingface_hub is not installed)")
        return None
    try:
        return Path(snapshot_download(hub_id, allow_patterns=_HUB_FILES))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()
        looked.append(f"{where} ({type(error).__name__}: {reason[0][:200] if reason else 'no reason given'})")
        return None
