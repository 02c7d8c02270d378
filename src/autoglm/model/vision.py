"""The ``glm4v`` vision tower: patch rows in, one embedding per 2x2 patches out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoglm.model.config import VisionConfig
from autoglm.model.layers import FusedLinear, RMSNorm, Spread, SwiGLU, row_parallel
from autoglm.model.patches import PatchRows, joined
from autoglm.model.rope import block_order, rotate_halves, vision_rotary
from autoglm.parallel.collectives import ALONE, Communicator

Grid = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Geometry:
    """What depends on the images' sizes alone, on the device, of the patches that this rank computes.

    Attributes:
        share: which those are.
        places: row and column of each frame's patches. cos, sin: ``[patches, 1, head_dim]``, of all images.
    """

    share: PatchRows
    places: list[tuple[Tensor, Tensor]]
    cos: Tensor
    sin: Tensor


class BlockKernels(Protocol):
    """Computes a tower's blocks instead of these modules; see :mod:`autoglm.model.native.tower`."""

    def fits(self, x: Tensor, geometry: Geometry) -> bool:
        """Whether these rows are for them."""

    def run(self, x: Tensor, geometry: Geometry) -> Tensor:
        """All blocks on ``[patches, hidden]``."""


class VisionBlocks(nn.ModuleList):
    """The blocks of a tower.

    Attributes:
        kernels: run them where they fit.
    """

    kernels: BlockKernels | None = None

    def forward(self, x: Tensor, geometry: Geometry) -> Tensor:
        """On ``[patches, hidden]`` of all images."""
        if self.kernels is not None and self.kernels.fits(x, geometry):
            return self.kernels.run(x, geometry)
        for block in self:
            x = block(x, geometry.cos, geometry.sin, geometry.share)
        return x


class PatchEmbed(nn.Module):
    """The strided Conv3d of the checkpoint, as the product it is on rows that are already patches."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.proj = nn.Linear(config.patch_values, config.hidden_size)

    def forward(self, rows: Tensor) -> Tensor:
        out: Tensor = self.proj(rows)
        return out


class VisionAttention(Spread):
    """Full attention within each image."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.heads, self.head_dim = config.num_heads, config.head_dim
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, rows: PatchRows) -> Tensor:
        q, k, v = self.qkv(x).view(x.shape[0], 3, self.heads, self.head_dim).unbind(1)
        return self.mixed(rotate_halves(q, cos, sin), rotate_halves(k, cos, sin), v, rows)

    def mixed(self, q: Tensor, k: Tensor, v: Tensor, rows: PatchRows) -> Tensor:
        """The rest, of rotated queries and keys, each ``[patches, heads, head_dim]``."""
        if rows.comm.size > 1:
            k, v = rows.whole(torch.stack([k, v], 1)).unbind(1)
        wholes, owns = list(rows.lengths), rows.own_lengths
        # Without a mask the kernels keep a block of scores at a time, never patches x patches of them.
        outs = [
            F.scaled_dot_product_attention(a.transpose(0, 1)[None], b.transpose(0, 1)[None], c.transpose(0, 1)[None])
            for a, b, c in zip(torch.split(q, owns), torch.split(k, wholes), torch.split(v, wholes), strict=True)
            if len(a)
        ]
        mixed = joined([o[0].transpose(0, 1) for o in outs]).flatten(1) if outs else q.flatten(1)
        return row_parallel(self.proj, mixed, self.comm)


class VisionBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.norm1 = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.norm2 = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attn = VisionAttention(config)
        self.mlp = SwiGLU(config.hidden_size, config.out_hidden_size, "gate_proj", "up_proj")

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, rows: PatchRows) -> Tensor:
        x = x + self.attn(self.norm1(x), cos, sin, rows)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class PatchMerger(Spread):
    """Projects merged patches to what the decoder reads."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        size, width = config.out_hidden_size, config.merger_size
        self.proj = nn.Linear(size, size, bias=False)
        self.post_projection_norm = nn.LayerNorm(size)
        self.gate_up = FusedLinear(size, (("gate_proj", width), ("up_proj", width)), bias=False)
        self.down_proj = nn.Linear(width, size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.post_projection_norm(row_parallel(self.proj, x, self.comm)))
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return row_parallel(self.down_proj, F.silu(gate) * up, self.comm)


class PositionTable(nn.Module):
    """A learned square table, sampled bicubically for the grid at hand."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.side = config.image_size // config.patch_size
        self.position_embedding = nn.Embedding(self.side**2, config.hidden_size)

    def forward(self, rows: Tensor, columns: Tensor, height: int, width: int) -> Tensor:
        """``[patches, hidden]`` at patch centres ``(row + 0.5) / height``, in fp32, clamped at the border."""
        if not len(rows):
            return self.position_embedding.weight[:0]
        table = self.position_embedding.weight.float().view(1, self.side, self.side, -1).permute(0, 3, 1, 2)
        x, y = (columns + 0.5) / width * 2 - 1, (rows + 0.5) / height * 2 - 1
        points = torch.stack([x, y], dim=-1).view(1, -1, 1, 2)
        sampled = F.grid_sample(table, points, mode="bicubic", align_corners=False, padding_mode="border")
        return sampled[0, :, :, 0].T.to(self.position_embedding.weight.dtype)


class VisionTower(nn.Module):
    """Patch rows of several images to embeddings, one batch for the products, attention per image."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.post_conv_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.embeddings = PositionTable(config)
        self.blocks = VisionBlocks(VisionBlock(config) for _ in range(config.depth))
        self.post_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.downsample = nn.Linear(config.hidden_size * config.merge_size**2, config.out_hidden_size)
        self.merger = PatchMerger(config)

    def geometry(self, grids: list[Grid], device: torch.device, comm: Communicator = ALONE) -> Geometry:
        """For images of these sizes."""
        merge = self.config.merge_size
        frames = [(h, w) for t, h, w in grids for _ in range(t)]
        share = PatchRows(tuple(h * w for h, w in frames), merge * merge, comm)
        order = [
            (r[start:end], c[start:end])
            for (r, c), (start, end) in zip((_orders(h, w, merge) for h, w in frames), share.spans, strict=True)
        ]
        rotary = [vision_rotary(r, c, self.config.head_dim) for r, c in order]
        cos = torch.cat([c for c, _ in rotary]).to(device)
        sin = torch.cat([s for _, s in rotary]).to(device)
        return Geometry(share, [(r.to(device), c.to(device)) for r, c in order], cos, sin)

    def forward(
        self, pixels: Tensor, grids: list[Grid], comm: Communicator = ALONE, geometry: Geometry | None = None
    ) -> Tensor:
        """``pixels [patches, patch_values]`` of all images -> ``[patches / merge^2, out_hidden_size]``.

        Args:
            comm: ranks that each have the whole tower and compute some rows; all give the same arguments and get all.
            geometry: of these sizes and these ranks, if the caller keeps it.
        """
        merge = self.config.merge_size
        if geometry is None:
            geometry = self.geometry(grids, pixels.device, comm)
        share = geometry.share
        x = self.post_conv_layernorm(self.patch_embed(share.own(pixels)))
        frames = [(h, w) for t, h, w in grids for _ in range(t)]
        x = x + joined([self.embeddings(*at, *frame) for at, frame in zip(geometry.places, frames, strict=True)])
        x = self.blocks(x, geometry)
        x = self.post_layernorm(x).view(x.shape[0] // merge**2, merge * merge * self.config.hidden_size)
        return share.merged().whole(self.merger(self.downsample(x)))


@lru_cache(maxsize=16)
def _orders(height: int, width: int, merge: int) -> tuple[Tensor, Tensor]:
    return block_order(height, width, merge)
