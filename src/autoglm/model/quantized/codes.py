"""Packing of weights: int8 with one scale per row; int4 in groups of 32 columns with one bf16 scale each.

An int4 weight is an index into 16 values that lie closer together near zero, as weights do (the table is that of
llama.cpp's IQ4_NL). The kernels hold the same table, ``CODES`` in ``native/csrc/linear.h``.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

GROUP = 32
CODES = (-127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0)
_SHRINK = (1.0, 0.92, 0.85)
_AT_ONCE = 2**19
"""Weights; packing takes many times their memory meanwhile."""


def pack_int8(weight: Tensor, largest: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """``[rows, cols]`` -> int8 of the same shape, and float32 scales ``[rows]``.

    ``largest``: the largest magnitude of each row, where ``weight`` has some of its columns only.
    """
    scales = (largest_of_rows(weight) if largest is None else largest).clamp_min(1e-30) / 127.0
    packed = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    for rows in _parts(weight):
        packed[rows] = (weight[rows].float() / scales[rows, None]).round_().to(torch.int8)
    return packed, scales


def largest_of_rows(weight: Tensor) -> Tensor:
    """Largest magnitude, float32 ``[rows]``."""
    return torch.cat([weight[rows].float().abs().amax(dim=1) for rows in _parts(weight)])


def unpack_int8(packed: Tensor, scales: Tensor) -> Tensor:
    """float32 ``[rows, cols]``."""
    return packed.float() * scales[:, None]


def pack_int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """``[rows, cols]``, ``cols`` a multiple of 32 -> uint8 ``[rows, cols / 2]``, bf16 scales ``[rows, cols / 32]``.

    Byte ``j`` of a group holds column ``j`` in its low half and column ``j + 16`` in its high half. Of several
    scales for a group, the one with the least squared error is taken.
    """
    parts = [_pack_rows(weight[rows].float()) for rows in _parts(weight)]
    return torch.cat([packed for packed, _ in parts]), torch.cat([scales for _, scales in parts])


def unpack_int4(packed: Tensor, scales: Tensor) -> Tensor:
    """float32 ``[rows, cols]``."""
    rows = packed.shape[0]
    groups = packed.view(rows, -1, GROUP // 2).long()
    codes = _table(packed.device)[torch.cat([groups & 15, groups >> 4], dim=2)]
    return (codes * scales.float().unsqueeze(2)).view(rows, -1)


def _parts(weight: Tensor) -> list[slice]:
    """Rows that are packed together."""
    rows, cols = weight.shape
    step = max(1, _AT_ONCE // cols)
    return [slice(start, start + step) for start in range(0, rows, step)]


@cache
def _table(device: torch.device) -> Tensor:
    """On the device once: a recorded step cannot fetch it from the host."""
    return torch.tensor(CODES, device=device)


def _pack_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    rows, cols = weight.shape
    groups = weight.reshape(-1, GROUP)
    codes = _table(weight.device)
    middles = (codes[1:] + codes[:-1]) / 2
    largest = groups.gather(1, groups.abs().argmax(dim=1, keepdim=True))
    best = torch.full((len(groups), 1), torch.inf, device=weight.device)
    scales, indices = torch.zeros_like(best), torch.zeros(groups.shape, dtype=torch.int64, device=weight.device)
    for end in (CODES[0], CODES[-1]):
        for shrink in _SHRINK:
            # The group's largest weight takes one end of the table, or a little beyond it.
            scale = (largest * (shrink / end)).to(torch.bfloat16).float()
            found = torch.bucketize(groups / torch.where(scale == 0, 1.0, scale), middles)
            error = (codes[found] * scale - groups).square_().sum(dim=1, keepdim=True)
            better = error < best
            best = torch.where(better, error, best)
            scales = torch.where(better, scale, scales)
            indices = torch.where(better, found, indices)
    low, high = indices.to(torch.uint8).view(rows, -1, 2, GROUP // 2).unbind(2)
    return (low | high << 4).reshape(rows, cols // 2), scales.view(rows, -1).to(torch.bfloat16)
