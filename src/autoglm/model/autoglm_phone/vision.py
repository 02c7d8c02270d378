"""The image stream: a plain ViT and the projector into the decoder's width.

Patch embedding (one linear map of each 14x14x3 patch) -> RMSNorm -> learned position table, sampled
bicubically for the image's grid -> pre-norm blocks with 2-D rotary attention -> RMSNorm -> two-layer projector.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoglm.errors import ImageError
from autoglm.model.autoglm_phone.config import PhoneVisionConfig
from autoglm.model.layers import RMSNorm


def patch_rows(pixels: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """``[3, rows*patch, columns*patch]`` -> ``[rows*columns, 3*patch*patch]``, row-major; (channel, y, x) inside."""
    rows, columns = grid
    blocks = pixels.reshape(pixels.shape[0], rows, patch, columns, patch)
    return blocks.permute(1, 3, 0, 2, 4).reshape(rows * columns, -1)


@lru_cache(maxsize=64)
def patch_coordinates(grid: tuple[int, int]) -> Tensor:
    """Row and column of each patch, int64 ``[2, rows*columns]``."""
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    return torch.stack([rows.reshape(-1), columns.reshape(-1)])


def rotary_2d(grid: tuple[int, int], head_dim: int, theta: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines ``[tokens, head_dim]`` (float32): a quarter of the frequencies turn with the row, a
    quarter with the column, both repeated for the second half of the head."""
    inverse = theta ** -(torch.arange(0, head_dim // 2, 2, dtype=torch.float32, device=device) / (head_dim // 2))
    coordinates = patch_coordinates(grid).to(device=device, dtype=torch.float32)
    angles = torch.cat([coordinates[0, :, None] * inverse, coordinates[1, :, None] * inverse], dim=-1)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def sample_positions(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Sample a square position table ``[side*side, dim]`` at the patch centres of ``grid`` -> ``[tokens, dim]``.

    Bicubic in float32, pixel-centre coordinates, border values beyond the edge; on its own grid the table
    comes back as it is.
    """
    side = int(table.shape[0] ** 0.5)
    if grid == (side, side):
        return table
    exact = torch.promote_types(table.dtype, torch.float32)
    plane = table.to(exact).reshape(1, side, side, -1).permute(0, 3, 1, 2)
    rows, columns = patch_coordinates(grid).to(table.device)
    y = (rows.to(exact) + 0.5) / grid[0] * 2 - 1
    x = (columns.to(exact) + 0.5) / grid[1] * 2 - 1
    points = torch.stack([x, y], dim=-1)[None, None]
    sampled = F.grid_sample(plane, points, mode="bicubic", padding_mode="border", align_corners=False)
    return sampled[0, :, 0].t().to(table.dtype)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.float().chunk(2, dim=-1) if x.dtype != torch.float64 else x.chunk(2, dim=-1)
    turned = torch.cat([first, second], dim=-1) * cos + torch.cat([-second, first], dim=-1) * sin
    return turned.to(x.dtype)


class VisionAttention(nn.Module):
    """Full attention over one image's patches; ``qkv`` fused, no bias."""

    def __init__(self, config: PhoneVisionConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        tokens = x.shape[0]
        q, k, v = self.qkv(x).reshape(tokens, 3, self.num_heads, -1).permute(1, 2, 0, 3).unbind(0)
        mixed = F.scaled_dot_product_attention(_rotate(q, *rotary)[None], _rotate(k, *rotary)[None], v[None])[0]
        out: Tensor = self.proj(mixed.transpose(0, 1).reshape(tokens, -1))
        return out


class VisionBlock(nn.Module):
    """``x + attention(norm1(x))``, then ``x + mlp(norm2(x))``."""

    def __init__(self, config: PhoneVisionConfig) -> None:
        super().__init__()
        self.norm1 = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attn = VisionAttention(config)
        self.norm2 = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = SwiGLU(config.hidden_size, config.intermediate_size)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.attn(self.norm1(x), rotary)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class VisionTower(nn.Module):
    """One image in, ``[num_tokens, hidden]`` out, at the ViT's width."""

    def __init__(self, config: PhoneVisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = nn.Linear(config.in_channels * config.patch_size**2, config.hidden_size)
        self.position_embedding = nn.Parameter(torch.empty(config.num_tokens, config.hidden_size))
        self.pre_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.blocks = nn.ModuleList(VisionBlock(config) for _ in range(config.depth))
        self.post_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """``pixels``: normalised ``[3, rows*patch, columns*patch]``.

        Raises:
            ImageError: the grid is no factorisation of ``num_tokens``, or the pixels do not fit it.
        """
        config = self.config
        expected = (config.in_channels, grid[0] * config.patch_size, grid[1] * config.patch_size)
        if grid[0] * grid[1] != config.num_tokens or min(grid) < 1:
            raise ImageError(
                f"a grid of {grid[0]}x{grid[1]} patches does not make {config.num_tokens} visual tokens",
                field="grid",
                limit=config.num_tokens,
                value=f"{grid[0]}x{grid[1]}",
            )
        if tuple(pixels.shape) != expected:
            raise ImageError(
                f"pixels of shape {list(pixels.shape)} do not fit the grid; expected {list(expected)}",
                field="pixels",
                limit=str(list(expected)),
                value=str(list(pixels.shape)),
            )
        weight = self.patch_embed.weight
        x = self.patch_embed(patch_rows(pixels.to(weight), grid, config.patch_size))
        x = self.pre_norm(x) + sample_positions(self.position_embedding, grid)
        cos, sin = rotary_2d(grid, config.hidden_size // config.num_heads, config.rope_theta, x.device)
        for block in self.blocks:
            x = block(x, (cos, sin))
        out: Tensor = self.post_norm(x)
        return out


class Projector(nn.Module):
    """ViT width -> decoder width: linear, exact GELU, linear; with bias."""

    def __init__(self, vision_size: int, hidden_size: int) -> None:
        super().__init__()
        self.up = nn.Linear(vision_size, hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.out(F.gelu(self.up(x)))
        return projected
