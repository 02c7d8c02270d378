"""Weight updates for replicas: an adapter's or a fine-tune's change, as a product of two thin matrices if it is one.

An adapter of rank r changes a matrix by one of rank r, whatever its size, and two versions of it differ by rank 2 r at
most. A full fine-tune's change has no such rank; then the error bound is not met by any rank that saves bytes, and the
change travels exactly. The bound is checked on what the receiver will hold, rounding of the factors included.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autoglm.errors import InvalidInputError

MAX_ERROR = 0.01
"""Of a matrix's change, relative, Frobenius: about that of 8-bit codes."""
_OVERSAMPLING = 8
_POWER_STEPS = 2
_RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True)
class LowRank:
    """``left @ right`` is the change of a matrix.

    Attributes:
        left, right: ``[rows, rank]``, ``[rank, columns]``, in the type they travel in.
        error: relative error of the change, measured; at most the bound it was coded with.
    """

    left: Tensor
    right: Tensor
    error: float

    @property
    def nbytes(self) -> int:
        return self.left.nbytes + self.right.nbytes

    def change(self) -> Tensor:
        """The change, float32 ``[rows, columns]``."""
        return self.left.float() @ self.right.float()


@dataclass(frozen=True, slots=True)
class Exact:
    """The new values themselves: no thin product was near enough, or small enough."""

    values: Tensor

    @property
    def nbytes(self) -> int:
        return self.values.nbytes


Update = LowRank | Exact


def encode_update(
    old: Tensor, new: Tensor, *, max_error: float = MAX_ERROR, dtype: torch.dtype = torch.bfloat16
) -> Update:
    """How ``old`` becomes ``new``, in few bytes.

    Args:
        old, new: of one shape and type.
        max_error: bound of the change's relative error; 0 asks for exact values.
        dtype: of the factors; bfloat16 rounds a change by about 0.2 %, float32 not at all.

    Returns:
        A thin product within the bound that takes at most half the bytes of ``new``, of the lowest rank found; else
        :class:`Exact`. Vectors and unchanged tensors too: an unchanged one is a product of rank 0.
    """
    if old.shape != new.shape or old.dtype != new.dtype:
        raise InvalidInputError(
            f"an update is of one shape and type, got {tuple(old.shape)} and {tuple(new.shape)}", field="new"
        )
    if new.ndim != 2 or max_error <= 0:
        return Exact(new.clone())
    change = new.float() - old.float()
    size = float(change.norm())
    if size == 0:
        return LowRank(change.new_zeros(len(change), 0).to(dtype), change.new_zeros(0, change.shape[1]).to(dtype), 0.0)
    if not torch.isfinite(change).all():
        return Exact(new.clone())
    most = new.nbytes // 2 // (dtype.itemsize * sum(new.shape))
    ranks = [rank for rank in _RANKS if rank <= min(most, *new.shape)]
    if not ranks:
        return Exact(new.clone())
    left, right = _factors(change, ranks[-1])
    for rank in ranks:
        found = LowRank(left[:, :rank].to(dtype).contiguous(), right[:rank].to(dtype).contiguous(), 0.0)
        error = float((found.change() - change).norm()) / size
        if error <= max_error:
            return LowRank(found.left, found.right, error)
    return Exact(new.clone())


def apply_update(old: Tensor, update: Update) -> Tensor:
    """The new values, in the type of ``old``: every replica that holds equal bits before holds equal bits after."""
    if isinstance(update, Exact):
        if update.values.shape != old.shape or update.values.dtype != old.dtype:
            raise InvalidInputError("this update is of another tensor", field="update")
        return update.values.clone()
    if (len(update.left), update.right.shape[1]) != tuple(old.shape):
        raise InvalidInputError("this update is of another tensor", field="update")
    return (old.float() + update.change()).to(old.dtype)


def _factors(change: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The best product of ``rank`` columns and rows, largest first: ``[rows, rank]``, ``[rank, columns]``.

    By random projection with power steps (Halko, Martinsson, Tropp 2011), which costs a few products of the matrix with
    a thin one; singular values are split evenly between the factors, so that both round alike.
    """
    width = min(rank + _OVERSAMPLING, *change.shape)
    random = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(change @ torch.randn(change.shape[1], width, generator=random)).Q
    for _ in range(_POWER_STEPS):
        basis = torch.linalg.qr(change @ torch.linalg.qr(change.T @ basis).Q).Q
    u, s, v = torch.linalg.svd(basis.T @ change, full_matrices=False)
    root = s[:rank].sqrt()
    return (basis @ u[:, :rank]) * root, root[:, None] * v[:rank]
