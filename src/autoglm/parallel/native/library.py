"""The compiled library of this room, if there is one: built with the package where a C compiler was at hand."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_float, c_int, c_int32, c_int64, c_uint64, c_void_p
from functools import cache

from autoglm.env import compiled_library

ABI = 1
_MODULE = "autoglm.parallel.native._wire"


class CodecC(ctypes.Structure):
    """``Codec`` of ``codec.c``."""

    _fields_ = (
        ("bits", c_int32),
        ("group", c_int32),
        ("columns", c_int64),
        ("channel", POINTER(c_float)),
        ("inverse", POINTER(c_float)),
    )


@cache
def library() -> ctypes.CDLL | None:
    """The library, or ``None``: not built, or built from other sources than these."""
    found = compiled_library(_MODULE, "autoglm_wire_abi", ABI)
    if found is not None:
        _declare(found)
    return found


def _declare(found: ctypes.CDLL) -> None:
    signatures = {
        "shm_bytes": ((c_int, c_uint64), c_uint64),
        "shm_open": ((c_void_p, c_int, c_int, c_uint64, POINTER(c_int), c_int64, c_int64), c_void_p),
        "shm_close": ((c_void_p,), None),
        "shm_culprit": ((c_void_p,), c_int),
        "shm_all_reduce": ((c_void_p, c_void_p, c_uint64, c_int), c_int),
        "shm_all_gather": ((c_void_p, c_void_p, c_void_p, c_uint64), c_int),
        "shm_broadcast": ((c_void_p, c_void_p, c_uint64, c_int), c_int),
        "shm_barrier": ((c_void_p,), c_int),
        "codec_encode": ((POINTER(CodecC), c_void_p, c_int64, c_int64, c_void_p), None),
        "codec_decode": ((POINTER(CodecC), c_void_p, c_int64, c_int64, c_void_p), None),
        "codec_reduce": ((POINTER(CodecC), c_void_p, POINTER(c_void_p), c_int32, c_int64, c_int64, c_void_p), None),
    }
    for name, (arguments, result) in signatures.items():
        function = getattr(found, f"autoglm_{name}")
        function.argtypes = arguments
        function.restype = result
