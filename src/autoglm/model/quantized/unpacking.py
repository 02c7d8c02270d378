"""Packed weights to float32 by the kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from autoglm.model.native.library import level, library
from autoglm.model.native.structs import INT4, INT8, MatrixC

_TYPES = {torch.int8: INT8, torch.uint8: INT4}


def unpack_natively(packed: Tensor, scales: Tensor, cols: int) -> Tensor | None:
    """float32 ``[rows, cols]`` of weights in tiles.

    ``None`` where the kernels cannot: not built, not on the CPU, odd widths, fp8.
    """
    found = library()
    if found is None or packed.device.type != "cpu" or cols % 32 or packed.dtype not in _TYPES:
        return None
    out = torch.empty(packed.shape[0], cols)
    matrix = MatrixC(
        type=_TYPES[packed.dtype],
        rows=packed.shape[0],
        cols=cols,
        data=packed.data_ptr(),
        scales=scales.data_ptr(),
    )
    found.autoglm_widen(matrix, out.data_ptr(), level())
    return out
