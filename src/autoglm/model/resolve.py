"""From what a user calls a checkpoint to the folder it is in."""

from __future__ import annotations

from pathlib import Path

from autoglm.env import model_directory
from autoglm.errors import CheckpointNotFoundError

ALIASES = {"autoglm-phone-9b": "zai-org/AutoGLM-Phone-9B"}
"""Short names for hub ids."""
_FILES = ["*.json", "*.safetensors", "*.jinja"]


def resolve_checkpoint(name: str | Path) -> Path:
    """Find a checkpoint: a local path, a name under ``AUTOGLM_MODEL_DIR``, a hub id.

    The hub is asked only if ``huggingface_hub`` is installed (extra ``hub``); what it has fetched before is found
    without a network.

    Raises:
        CheckpointNotFoundError: with every place looked at, and what to do.
    """
    looked: list[str] = []
    local = Path(name).expanduser()
    if (local / "config.json").is_file():
        return local
    looked.append(f"{local} (no config.json there)" if local.is_dir() else f"{local} (no such folder)")
    root = model_directory()
    if root is None:
        looked.append("AUTOGLM_MODEL_DIR (not set)")
    elif (root / name / "config.json").is_file():
        return root / name
    else:
        looked.append(f"{root / name} (AUTOGLM_MODEL_DIR)")
    hub_id = ALIASES.get(str(name), str(name))
    found = _from_hub(hub_id, looked)
    if found is not None:
        return found
    raise CheckpointNotFoundError(
        f"no checkpoint {str(name)!r}; looked at: {'; '.join(looked)}. Give the path of a checkpoint folder, set "
        f"AUTOGLM_MODEL_DIR, or install autoglm[hub] and use a hub id such as {ALIASES['autoglm-phone-9b']}",
        field="model",
        value=str(name),
    )


def _from_hub(hub_id: str, looked: list[str]) -> Path | None:
    if hub_id.count("/") != 1 or hub_id.startswith((".", "/", "~")):
        return None
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        looked.append(f"hub {hub_id} (huggingface_hub is not installed)")
        return None
    try:
        return Path(snapshot_download(hub_id, allow_patterns=_FILES))
    except Exception as error:  # the library raises dozens of types; the user needs one message
        looked.append(f"hub {hub_id} ({type(error).__name__})")
        return None
