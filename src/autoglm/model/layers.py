"""Layers both layouts share. A fused layer knows the names its parts have in a checkpoint."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoglm.parallel.collectives import ALONE, Communicator


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last dimension (Zhang & Sennrich 2019), computed in fp32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.shape = (size,)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.shape, self.weight, self.eps)


class Embedding(nn.Embedding):
    """A table without initial values: on the meta device, drawing them would import torch's compiler (140 MB, 2 s)."""

    def reset_parameters(self) -> None:
        """The loader, or the initialiser, fills it."""


class FusedLinear(nn.Module):
    """One product for several projections of the same input.

    Attributes:
        parts: (name in the checkpoint, output rows) in order; the loader fills each part's rows.
    """

    def __init__(self, in_features: int, parts: tuple[tuple[str, int], ...], bias: bool) -> None:
        super().__init__()
        self.parts = parts
        rows = sum(size for _, size in parts)
        self.weight = nn.Parameter(torch.empty(rows, in_features))
        self.bias = nn.Parameter(torch.empty(rows)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Spread(nn.Module):
    """A module whose weights may be spread over ranks (see :mod:`autoglm.model.sharding`); by default they are not."""

    comm: Communicator = ALONE


def row_parallel(linear: nn.Module, x: Tensor, comm: Communicator) -> Tensor:
    """A product of which each rank holds some input columns; the ranks' results are summed, and a bias added once."""
    if comm.size == 1:
        whole: Tensor = linear(x)
        return whole
    bias = getattr(linear, "bias", None)
    part = linear(x) if bias is None else F.linear(x, linear.get_parameter("weight"))
    if part.numel():  # no row is wanted: the ranks agree on that, too
        part = comm.all_reduce(part)
    return part if bias is None else part + bias


class SwiGLU(Spread):
    """``down(silu(gate(x)) * up(x))`` (Shazeer 2020).

    Args:
        gate_up_parts: the checkpoint's name of the fused matrix, or its two names.
    """

    def __init__(self, size: int, width: int, *gate_up_parts: str) -> None:
        super().__init__()
        rows = 2 * width // len(gate_up_parts)
        self.gate_up = FusedLinear(size, tuple((name, rows) for name in gate_up_parts), bias=False)
        self.down_proj = nn.Linear(width, size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return row_parallel(self.down_proj, F.silu(gate).mul_(up), self.comm)
