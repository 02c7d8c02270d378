"""Packed weights in the order in which the CPU's kernels read them.

They lie in tiles of :data:`TILE` rows, and in a tile by blocks of :data:`BLOCK` columns: the rows' first blocks, then
their second ones, and so on; the last tile and the last block may be smaller. So the kernels read them in the order of
their addresses and multiply four rows at once. The scales of int4 lie in the same order, those of int8 are one a row.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from autoglm.model.quantized.codes import GROUP

TILE = 4
BLOCK = 128


def in_tiles(packed: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    """int8 or int4 weights, as :mod:`.codes` packs them, in tiles; of the same shapes."""
    if packed.dtype == torch.int8:
        return _tiled(packed, BLOCK), scales
    return _tiled(packed, BLOCK // 2), _tiled(scales, BLOCK // GROUP)


def out_of_tiles(packed: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    """What :func:`in_tiles` was given."""
    if packed.dtype == torch.int8:
        return _untiled(packed, BLOCK), scales
    return _untiled(packed, BLOCK // 2), _untiled(scales, BLOCK // GROUP)


def _tiled(rows: Tensor, block: int) -> Tensor:
    """A matrix in the order of tiles, in which ``block`` of its columns lie together; of the same shape."""
    count, cols = rows.shape
    if count % TILE == 0 and cols % block == 0:
        return rows.view(count // TILE, TILE, -1, block).transpose(1, 2).reshape(count, cols)
    out = torch.empty_like(rows).view(-1)
    for place, part in zip(_blocks(out, count, cols, block), _cells(rows, block), strict=True):
        place.copy_(part)
    return out.view(count, cols)


def _untiled(tiles: Tensor, block: int) -> Tensor:
    """What :func:`_tiled` was given."""
    count, cols = tiles.shape
    if count % TILE == 0 and cols % block == 0:
        return tiles.view(count // TILE, -1, TILE, block).transpose(1, 2).reshape(count, cols)
    out = torch.empty_like(tiles)
    for place, part in zip(_cells(out, block), _blocks(tiles.view(-1), count, cols, block), strict=True):
        place.copy_(part)
    return out


def _cells(rows: Tensor, block: int) -> Iterator[Tensor]:
    """A matrix by tiles and blocks, in their order."""
    count, cols = rows.shape
    for row in range(0, count, TILE):
        for col in range(0, cols, block):
            yield rows[row : row + TILE, col : col + block]


def _blocks(flat: Tensor, count: int, cols: int, block: int) -> Iterator[Tensor]:
    """The same cells of what lies in that order already."""
    start = 0
    for row in range(0, count, TILE):
        for col in range(0, cols, block):
            shape = (min(TILE, count - row), min(block, cols - col))
            yield flat[start : start + shape[0] * shape[1]].view(shape)
            start += shape[0] * shape[1]
