"""8-bit floating point (e4m3) with one scale a row of weights; rows of activations are rounded to it for the product.

Cards from compute capability 8.9 on multiply the codes themselves; older ones get the weights unpacked and activations
as they are. The CPU computes what the cards do, on unpacked codes.
"""

from __future__ import annotations

import logging
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from autoglm.model.cuda.fused_kernels import round_rows
from autoglm.model.cuda.paged_kernel import available

log = logging.getLogger(__name__)
DTYPE = torch.float8_e4m3fn
LARGEST = 448.0
_LEAST_CAPABILITY = (8, 9)
_MULTIPLE = 16
"""Both sides of a matrix that cards multiply are multiples of this."""


def pack_fp8(weight: Tensor, largest: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """``[rows, cols]`` -> e4m3 of the same shape, and float32 scales ``[rows]``; activations are packed alike.

    ``largest``: the largest magnitude of each row, where ``weight`` has some of its columns only.
    """
    exact = weight.float()
    scales = (exact.abs().amax(dim=1) if largest is None else largest).clamp_min(1e-30) / LARGEST
    return (exact / scales[:, None]).clamp_(-LARGEST, LARGEST).to(DTYPE), scales


def unpack_fp8(packed: Tensor, scales: Tensor) -> Tensor:
    """float32 ``[rows, cols]``."""
    return packed.float() * scales[:, None]


def linear(x: Tensor, packed: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    """``[rows, cols] -> [rows, out]`` in the dtype of ``x``."""
    if x.is_cuda and not multiplies(x.device):
        return F.linear(x, unpack_fp8(packed, scales).to(x.dtype), bias)
    if not len(x):
        return x.new_empty(0, len(packed))
    codes, steps = round_rows(x.contiguous(), LARGEST, DTYPE) if kernels(x.device) else pack_fp8(x)
    if x.is_cuda and packed.shape[0] % _MULTIPLE == 0 and packed.shape[1] % _MULTIPLE == 0:
        # Scales of rows and columns come with 16-bit results only.
        out = torch._scaled_mm(
            codes, packed.t(), scale_a=steps[:, None], scale_b=scales[None, :], out_dtype=torch.bfloat16
        ).to(x.dtype)
    else:
        out = (F.linear(codes.float(), packed.float()) * steps[:, None] * scales).to(x.dtype)
    return out if bias is None else out + bias


@cache
def kernels(device: torch.device) -> bool:
    """Whether rows are rounded by a kernel: in one reading, not in six."""
    return device.type == "cuda" and available(device)


@cache
def multiplies(device: torch.device) -> bool:
    """Whether the card multiplies e4m3 with scales by row, by trial."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < _LEAST_CAPABILITY:
        return False
    try:
        ones = torch.ones(16, 32, device=device)
        codes, steps = pack_fp8(ones)
        found = torch._scaled_mm(
            codes, codes.t(), scale_a=steps[:, None], scale_b=steps[None, :], out_dtype=torch.bfloat16
        )
        right = bool((found.float() == 32.0).all())
    except RuntimeError as error:
        log.info("8-bit weights are unpacked for products: %s", error)
        return False
    return right
