"""The compiled library of this room, if there is one: built with the package where a C compiler was at hand."""

from __future__ import annotations

import ctypes
import logging
from ctypes import POINTER, c_float, c_int, c_int32, c_int64, c_uint64, c_void_p
from functools import cache
from importlib.util import find_spec

log = logging.getLogger(__name__)
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
    spec = find_spec(_MODULE)
    if spec is None or spec.origin is None:
        return None
    try:
        found = ctypes.CDLL(spec.origin)
        abi = found.autoglm_wire_abi()
    except (OSError, AttributeError) as error:
        log.warning("%s cannot be used: %s", spec.origin, error)
        return None
    if abi != ABI:
        log.warning("%s is of another version (%s, not %s); install the package again", spec.origin, abi, ABI)
        return None
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
