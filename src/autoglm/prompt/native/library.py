"""The compiled function, if there is one."""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_void_p
from functools import cache

import numpy as np
from numpy.typing import NDArray

from autoglm.env import compiled_library

ABI = 1
_MODULE = "autoglm.prompt.native._patches"


@cache
def library() -> ctypes.CDLL | None:
    """The library, or ``None``: not built, or built from other sources than these."""
    found = compiled_library(_MODULE, "autoglm_patches_abi", ABI)
    if found is not None:
        found.autoglm_patch_rows.argtypes = [c_void_p, *[c_int] * 5, c_void_p, c_void_p]
        found.autoglm_patch_rows.restype = None
    return found


def patch_rows(
    image: NDArray[np.uint8], size: int, merge: int, frames: int, table: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    """Rows in blocks of ``merge`` x ``merge`` patches, ``[patches, 3 * frames * size * size]``; ``None``: not built.

    Args:
        image: ``[height, width, 3]``, contiguous, whole blocks. table: ``[3, 256]``, the value of each byte.
    """
    found = library()
    if found is None:
        return None
    height, width = image.shape[0] // size, image.shape[1] // size
    rows = np.empty((height * width, 3 * frames * size * size), dtype=np.float32)
    found.autoglm_patch_rows(image.ctypes.data, height, width, size, merge, frames, table.ctypes.data, rows.ctypes.data)
    return rows
