"""Reading the small JSON files of a checkpoint directory, with errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autoglm.errors import CheckpointNotFoundError, CorruptCheckpointError


def read_json(path: Path) -> dict[str, Any]:
    """The object in ``path``.

    Raises:
        CheckpointNotFoundError: there is no such file.
        CorruptCheckpointError: it is not UTF-8 JSON, or not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise CheckpointNotFoundError(f"{path} does not exist", field=path.name, value=str(path)) from None
    except (OSError, ValueError) as error:
        raise CorruptCheckpointError(
            f"{path} cannot be read as JSON: {error}", field=path.name, value=str(path)
        ) from error
    if not isinstance(value, dict):
        raise CorruptCheckpointError(
            f"{path} must hold a JSON object, not {type(value).__name__}", field=path.name, value=str(path)
        )
    return value


def read_optional_json(path: Path) -> dict[str, Any]:
    """As :func:`read_json`, but ``{}`` where there is no file."""
    return read_json(path) if path.is_file() else {}
