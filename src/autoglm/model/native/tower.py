"""The blocks of a vision tower on the kernels: rows are patches, and attention is over the whole of an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autoglm.model.native.description import LANES, Description
from autoglm.model.native.handle import Handle
from autoglm.model.native.library import level
from autoglm.model.native.prefill import Rows, run_halves
from autoglm.model.native.structs import F32, LayerC, ModelC
from autoglm.model.vision import Geometry, VisionBlock


class TowerKernels:
    """Runs a tower's blocks, all of them in one call."""

    def __init__(self, blocks: Sequence[VisionBlock], threads: int, instructions: int | None = None) -> None:
        self._description = _describe(blocks, threads)
        self.handle = Handle(self._description.model, instructions)
        self._halves = 2 * len(blocks)

    @classmethod
    def of(cls, blocks: nn.ModuleList, threads: int) -> TowerKernels | None:
        """``None`` where they cannot run, or torch is faster: not built, a machine without wide vectors, not float32 on
        the CPU, heads that do not fit."""
        found = [block for block in blocks if isinstance(block, VisionBlock)]
        if level() <= 0 or not found or len(found) < len(blocks):
            return None
        attention, weight = found[0].attn, found[0].attn.qkv.weight
        if weight.dtype != torch.float32 or weight.device.type != "cpu" or attention.comm.size > 1:
            return None
        if attention.head_dim % LANES or weight.shape[1] % 2:
            return None
        return cls(found, threads)

    def fits(self, x: Tensor, geometry: Geometry) -> bool:
        """Whether rows are for the kernels: all patches of the images, on this rank."""
        return geometry.share.comm.size == 1 and x.dtype == torch.float32 and len(x) > 0

    def run(self, x: Tensor, geometry: Geometry) -> Tensor:
        """All blocks on ``[patches, hidden]`` of several images."""
        lengths = geometry.share.lengths
        half = geometry.cos.shape[-1] // 2
        turn = torch.stack([geometry.cos[..., :half], geometry.sin[..., :half]], dim=-1)
        slots = list(torch.split(torch.arange(len(x)), list(lengths)))
        parts, start = [], 0
        for length in lengths:
            parts.append((start, length, length))
            start += length
        return run_halves(self.handle, Rows(x, parts, slots, turn), 0, self._halves)


def _describe(blocks: Sequence[VisionBlock], threads: int) -> Description:
    first = blocks[0]
    out = Description(ModelC())
    layers = (LayerC * len(blocks))(*(_layer(out, block) for block in blocks))
    out.alive.append(layers)
    out.model = ModelC(
        hidden=first.attn.qkv.weight.shape[1],
        layers=len(blocks),
        heads=first.attn.heads,
        kv_heads=first.attn.heads,
        head_dim=first.attn.head_dim,
        rotary_pairs=first.attn.head_dim // 2,
        halves=True,
        whole=True,
        intermediate=first.mlp.down_proj.weight.shape[1],
        eps=first.norm1.eps,
        kv_type=F32,
        block_size=1,
        max_rows=1,
        max_tokens=1,
        threads=threads,
        first_fusion=len(blocks),
        layer=layers,
    )
    return out


def _layer(out: Description, block: VisionBlock) -> LayerC:
    return LayerC(
        input_norm=out.vector(block.norm1.weight),
        mlp_norm=out.vector(block.norm2.weight),
        qkv=out.matrix(block.attn.qkv),
        out=out.matrix(block.attn.proj),
        gate_up=out.matrix(block.mlp.gate_up),
        down=out.matrix(block.mlp.down_proj),
        module=-1,
    )
