"""Which implementation of the first level is used."""

from __future__ import annotations

from typing import Any

from autoglm import env
from autoglm.cache.local.config import Implementation
from autoglm.cache.local.python import PythonCache
from autoglm.errors import InvalidInputError

try:
    from autoglm.cache.local.slab import SlabCache
except ImportError as error:  # not built here, or a build of Python it refuses
    _slab: type[Any] | None = None
    _reason = str(error)
else:
    _slab = SlabCache
    _reason = ""


def implementation(wanted: Implementation) -> type[Any]:
    """The class for ``wanted``; ``AUTO`` asks ``AUTOGLM_CACHE`` first.

    Raises:
        InvalidInputError: the extension was asked for and cannot be imported, or the variable's value is unknown.
    """
    if wanted is Implementation.AUTO:
        value = env.cache_implementation()
        try:
            wanted = Implementation(value)
        except ValueError:
            known = ", ".join(Implementation)
            raise InvalidInputError(
                f"{env.CACHE} must be one of {known}", field=env.CACHE, limit=known, value=value
            ) from None
    if wanted is Implementation.PYTHON or (wanted is Implementation.AUTO and _slab is None):
        return PythonCache
    if _slab is None:
        raise InvalidInputError(
            f"the cache extension cannot be imported ({_reason}); build it by installing the package with a C compiler",
            field="implementation",
            value=wanted,
        )
    return _slab
