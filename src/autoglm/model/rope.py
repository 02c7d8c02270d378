"""Rotary positions: partial interleaved M-RoPE of the decoder, 2-D half-rotation of the vision tower."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class TextRope(nn.Module):
    """Rotates the first ``rotary_dim`` of each head in adjacent pairs (GPT-J style); the rest passes through.

    Args:
        section: frequency pairs that follow the temporal, height and width position, in this order.
    """

    inv_freq: Tensor
    axis: Tensor

    def __init__(self, rotary_dim: int, theta: float, section: Sequence[int]) -> None:
        super().__init__()
        self.rotary_dim = rotary_dim
        with torch.device("cpu"):  # a buffer is data, not a weight: real even while the model is built on meta
            exponent = torch.arange(0, rotary_dim, 2, dtype=torch.float32) / rotary_dim
            self.register_buffer("inv_freq", theta**-exponent, persistent=False)
            axis = torch.repeat_interleave(torch.arange(3), torch.tensor(list(section)))
            self.register_buffer("axis", axis, persistent=False)

    def rotations(self, positions: Tensor) -> Tensor:
        """Unit complex numbers ``[rows, 1, rotary_dim/2]`` for positions ``[3, rows]``; once per step."""
        angles = positions[self.axis].T.contiguous().float() * self.inv_freq  # kernels read them row by row
        return torch.polar(torch.ones_like(angles), angles).unsqueeze(1)

    def apply(self, heads: Tensor, rotations: Tensor) -> None:  # type: ignore[override]
        """Rotate ``heads [rows, heads, head_dim]`` in place."""
        rows, count, _ = heads.shape
        rotated = heads[..., : self.rotary_dim].view(rows, count, self.rotary_dim // 2, 2)
        if rotated.dtype == torch.float32:
            torch.view_as_complex(rotated).mul_(rotations)
        else:
            product = torch.view_as_complex(rotated.float().contiguous()) * rotations
            rotated.copy_(torch.view_as_real(product))


def rope_positions(
    num_tokens: int, images: Sequence[tuple[int, tuple[int, int, int]]], merge_size: int
) -> tuple[Tensor, int]:
    """M-RoPE positions of a prompt.

    Args:
        images: (index of the first placeholder, patch grid (t, h, w)) in order; any number.

    Returns:
        int64 ``[3, num_tokens]``, and the delta to add to a later token's index to get its position.
        An image advances the counter by the longer side of its merged grid, not by its token count.
    """
    parts: list[Tensor] = []
    token, position = 0, 0
    for start, (t, h, w) in images:
        run = start - token
        parts.append(torch.arange(position, position + run).expand(3, run))
        position += run
        rows, columns = h // merge_size, w // merge_size
        grid = torch.stack(
            [
                torch.arange(t).view(t, 1, 1).expand(t, rows, columns),
                torch.arange(rows).view(1, rows, 1).expand(t, rows, columns),
                torch.arange(columns).view(1, 1, columns).expand(t, rows, columns),
            ]
        ).flatten(1)
        parts.append(grid + position)
        position += max(t, rows, columns)
        token = start + t * rows * columns
    rest = num_tokens - token
    parts.append(torch.arange(position, position + rest).expand(3, rest))
    return torch.cat(parts, dim=1), position + rest - num_tokens


def block_order(height: int, width: int, merge: int) -> tuple[Tensor, Tensor]:
    """Row and column of each patch, in the order the processor emits them: blocks of merge x merge."""
    rows = torch.arange(height).view(height // merge, 1, merge, 1).expand(-1, width // merge, -1, merge)
    columns = torch.arange(width).view(1, width // merge, 1, merge).expand(height // merge, -1, merge, -1)
    return rows.flatten(), columns.flatten()


def vision_rotary(rows: Tensor, columns: Tensor, head_dim: int, theta: float = 10000.0) -> tuple[Tensor, Tensor]:
    """``cos, sin`` of shape ``[patches, 1, head_dim]``: half the pairs follow the row, half the column."""
    inv_freq = theta ** -(torch.arange(0, head_dim // 2, 2, dtype=torch.float32) / (head_dim // 2))
    angles = torch.cat([rows[:, None] * inv_freq, columns[:, None] * inv_freq], dim=-1)
    angles = torch.cat([angles, angles], dim=-1).unsqueeze(1)
    return angles.cos(), angles.sin()


def rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate ``x [patches, heads, head_dim]`` in fp32: pair i is (i, i + head_dim/2)."""
    y = x.float()
    first, second = y.chunk(2, dim=-1)
    return (y * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)
