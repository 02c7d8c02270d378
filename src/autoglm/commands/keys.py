"""API keys, from a file or the environment."""

from __future__ import annotations

from pathlib import Path

from autoglm import env
from autoglm.errors import InvalidInputError


def api_keys(file: Path | None) -> tuple[str, ...]:
    """One key a line of ``file``, or ``AUTOGLM_API_KEYS``. Raises :class:`InvalidInputError` for an empty file."""
    if file is None:
        return env.api_keys()
    try:
        keys = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
    except OSError as error:
        raise InvalidInputError(f"--api-key-file: {error.strerror}: {file}", field="api_key_file") from error
    if not keys:
        raise InvalidInputError(f"--api-key-file: {file} holds no key", field="api_key_file", limit=1, value=0)
    return keys
