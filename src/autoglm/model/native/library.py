"""The compiled kernels, if there are any: built with the package where a C compiler was at hand."""

from __future__ import annotations

import ctypes
import time
from ctypes import POINTER, c_double, c_int, c_void_p
from functools import cache

from autoglm.env import compiled_library
from autoglm.model.native.structs import ABI, MatrixC, ModelC, PrefillC, RowC

_MODULE = "autoglm.model.native._decode"


@cache
def library() -> ctypes.CDLL | None:
    """The library, or ``None``: not built, or built from other sources than these."""
    found = compiled_library(_MODULE, "autoglm_abi", ABI)
    if found is not None:
        _declare(found)
    return found


def level() -> int:
    """Instruction set of this machine: 0 any, 1 AVX2, 2 AVX-512, 3 with VNNI; -1 without the library."""
    found = library()
    return -1 if found is None else int(found.autoglm_level())


def peak_rate(rounds: int = 2_000_000) -> float:
    """Multiplications and additions of float32 a second that this core does at most: the best of a few tries."""
    found = library()
    assert found is not None
    best = 0.0
    for _ in range(5):
        start = time.thread_time()
        operations = float(found.autoglm_peak(level(), rounds))
        best = max(best, operations / (time.thread_time() - start))
    return best


def argmax_minus(logits: int, vocab: int, ids: int, amounts: int, count: int) -> int:
    """Arg-max of float32 logits after taking ``amounts[i]`` off ``ids[i]``; all but ``vocab`` and ``count`` are
    addresses (int64 ids, float32 amounts). Only where :func:`library` gives one."""
    found = library()
    assert found is not None
    return int(found.autoglm_choose(logits, vocab, ids, amounts, count))


def _declare(found: ctypes.CDLL) -> None:
    found.autoglm_create.argtypes = [POINTER(ModelC), c_int]
    found.autoglm_create.restype = c_void_p
    found.autoglm_destroy.argtypes = [c_void_p]
    found.autoglm_destroy.restype = None
    found.autoglm_step.argtypes = [c_void_p, POINTER(RowC), c_int, c_void_p, c_void_p]
    found.autoglm_step.restype = c_int
    found.autoglm_prefill.argtypes = [c_void_p, POINTER(PrefillC)]
    found.autoglm_prefill.restype = c_int
    found.autoglm_spent.argtypes = [c_void_p, POINTER(c_double)]
    found.autoglm_spent.restype = None
    found.autoglm_peak.argtypes = [c_int, c_int]
    found.autoglm_peak.restype = c_double
    found.autoglm_widen.argtypes = [POINTER(MatrixC), c_void_p, c_int]
    found.autoglm_widen.restype = None
    found.autoglm_choose.argtypes = [c_void_p, c_int, c_void_p, c_void_p, c_int]
    found.autoglm_choose.restype = c_int
