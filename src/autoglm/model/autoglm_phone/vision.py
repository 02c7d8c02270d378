"""The image stream: a plain ViT and the projector into the decoder's width.

Patch embedding (one linear map of each 3x14x14 patch, or a convolutional stem and a linear map) -> RMSNorm -> learned
position table, sampled bicubically for the image's grid -> pre-norm blocks with 2-D rotary attention -> RMSNorm ->
two-layer projector.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoglm.errors import ImageError
from autoglm.model.autoglm_phone.config import PhoneVisionConfig
from autoglm.model.autoglm_phone.stem import ConvStem
from autoglm.model.layers import RMSNorm, Spread, row_parallel
from autoglm.model.patches import PatchRows
from autoglm.model.rope import block_order, vision_rotary
from autoglm.model.vision import Geometry, PositionTable, VisionBlock, VisionBlocks
from autoglm.parallel.collectives import ALONE, Communicator


def patch_rows(pixels: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """``[3, rows*patch, columns*patch]`` -> ``[rows*columns, 3*patch*patch]``, row-major; (channel, y, x) inside."""
    rows, columns = grid
    blocks = pixels.reshape(pixels.shape[0], rows, patch, columns, patch)
    return blocks.permute(1, 3, 0, 2, 4).reshape(rows * columns, -1)


class Projector(Spread):
    """ViT width -> decoder width: linear, exact GELU, linear; with bias."""

    def __init__(self, vision_size: int, hidden_size: int) -> None:
        super().__init__()
        self.up = nn.Linear(vision_size, hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return row_parallel(self.out, F.gelu(self.up(x)), self.comm)


class VisionTower(nn.Module):
    """One image in, ``[num_tokens, hidden_size]`` out, at the decoder's width."""

    def __init__(self, config: PhoneVisionConfig, hidden_size: int) -> None:
        super().__init__()
        self.config = config
        blocks = config.blocks()
        self.stem = ConvStem(config.in_channels, config.stem_channels) if config.stem_channels else None
        values = config.stem_channels[-1] if config.stem_channels else config.in_channels * config.patch_size**2
        self.patch_embed = nn.Linear(values, config.hidden_size)
        self.embeddings = PositionTable(blocks)
        self.pre_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.blocks = VisionBlocks(VisionBlock(blocks) for _ in range(config.depth))
        self.post_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.projector = Projector(config.hidden_size, hidden_size)

    def geometry(self, grid: tuple[int, int], device: torch.device, comm: Communicator = ALONE) -> Geometry:
        """For images of this size."""
        share = PatchRows((self.config.num_tokens,), 1, comm)
        rows, columns = (share.own(axis) for axis in block_order(*grid, 1))
        cos, sin = vision_rotary(rows, columns, self.config.head_dim, self.config.rope_theta)
        return Geometry(share, [(rows.to(device), columns.to(device))], cos.to(device), sin.to(device))

    def forward(
        self, pixels: Tensor, grid: tuple[int, int], comm: Communicator = ALONE, geometry: Geometry | None = None
    ) -> Tensor:
        """``pixels``: normalised ``[3, rows*patch, columns*patch]``.

        Args:
            comm: ranks that each have the whole tower and compute some patches; all give the same arguments and get
                all. The stem, which looks beyond a patch, is computed whole on each.
            geometry: of this size and these ranks, if the caller keeps it.

        Raises:
            ImageError: the grid is no factorisation of ``num_tokens``, or the pixels do not fit it.
        """
        self._check(pixels, grid)
        config, weight = self.config, self.patch_embed.weight
        if geometry is None:
            geometry = self.geometry(grid, weight.device, comm)
        share = geometry.share
        pixels = pixels.to(weight)
        patches = patch_rows(pixels, grid, config.patch_size) if self.stem is None else self.stem(pixels[None])[0]
        x = self.pre_norm(self.patch_embed(share.own(patches)))
        x = x + self.embeddings(*geometry.places[0], *grid)
        x = self.blocks(x, geometry)
        return share.whole(self.projector(self.post_norm(x)))

    def _check(self, pixels: Tensor, grid: tuple[int, int]) -> None:
        rows, columns = grid
        config = self.config
        if rows < 1 or columns < 1 or rows * columns != config.num_tokens:
            raise ImageError(
                f"a grid of {rows}x{columns} patches does not make {config.num_tokens} visual tokens",
                field="grid",
                limit=config.num_tokens,
                value=f"{rows}x{columns}",
            )
        expected = [config.in_channels, rows * config.patch_size, columns * config.patch_size]
        if list(pixels.shape) != expected:
            raise ImageError(
                f"pixels of shape {list(pixels.shape)} do not fit the grid; expected {expected}",
                field="pixels",
                limit=str(expected),
                value=str(list(pixels.shape)),
            )
