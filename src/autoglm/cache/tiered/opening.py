"""Opening the shared level, whose client is an optional part of the installation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoglm.cache.tiered.config import SharedConfig
from autoglm.errors import InvalidInputError

if TYPE_CHECKING:
    from autoglm.cache.tiered.shared import SharedLevel


def open_shared(config: SharedConfig) -> SharedLevel:
    """The shared level at ``config.url``. A server that is away is no error: it is used once it is there.

    Raises:
        InvalidInputError: the URL is not one of Redis, or the client is not installed.
    """
    try:
        from autoglm.cache.tiered.shared import SharedLevel
    except ImportError as error:
        raise InvalidInputError(
            "a shared cache needs the Redis client: pip install 'autoglm[redis]'", field="redis_url"
        ) from error
    return SharedLevel(config)
