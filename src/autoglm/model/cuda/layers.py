"""Layers and blocks with what stands between their products fused, see :mod:`autoglm.model.cuda.fused_kernels`.

The same weights and products as the modules' own; :class:`autoglm.model.decoder.Decoder` and the vision towers call
them where they are set.
"""

from __future__ import annotations

import dataclasses
import logging

import torch
import torch.nn.functional as F
from torch import Tensor

from autoglm.model.attention import AttentionPlan, attend_stored
from autoglm.model.context import ForwardContext
from autoglm.model.cuda import fused_kernels, paged_kernel
from autoglm.model.decoder import Decoder, DecoderLayer
from autoglm.model.layers import RMSNorm, SwiGLU, row_parallel
from autoglm.model.registry import Model
from autoglm.model.vision import Geometry, VisionBlock, VisionBlocks

log = logging.getLogger(__name__)
_TOLERANCE = 2e-2
"""Largest difference of unit normal values in 16 bits: two roundings."""


class FusedLayers:
    """A decoder's layers."""

    def __init__(self, decoder: Decoder) -> None:
        self._layers = decoder.layers
        self._last = 2 * len(decoder.layers)
        self._rotary_dim = decoder.rope.rotary_dim

    def plan(self, context: ForwardContext, rotations: Tensor) -> AttentionPlan | None:
        """As :class:`autoglm.model.decoder.LayerKernels` says: every step is one for them."""
        return dataclasses.replace(AttentionPlan.of(context, rotations), by_kernels=True)

    def run(self, hidden: Tensor, context: ForwardContext, plan: AttentionPlan, first: int, last: int) -> Tensor:
        """As :class:`autoglm.model.decoder.LayerKernels` says."""
        hidden = hidden.contiguous()
        normed: Tensor | None = None
        for half in range(first, last):
            layer, attends = self._layer(half), half % 2 == 0
            before = layer.input_layernorm if attends else layer.post_attention_layernorm
            x = before(hidden) if normed is None else normed
            if attends:
                y, norm = self._attend(layer, half // 2, x, context, plan), layer.post_self_attn_layernorm
            else:
                y, norm = feed_forward(layer.mlp, x), layer.post_mlp_layernorm
            leaves = attends and half + 2 == self._last == last and context.output_rows is not None
            if half + 1 == last or leaves:
                hidden, normed = fused_kernels.add_norm(hidden, y, norm.weight, norm.eps), None
            else:
                after = layer.post_attention_layernorm if attends else self._layer(half + 1).input_layernorm
                hidden, normed = fused_kernels.add_norm_norm(hidden, y, norm.weight, norm.eps, after.weight, after.eps)
            if leaves:
                hidden = hidden[context.output_rows]
        return hidden

    def _layer(self, half: int) -> DecoderLayer:
        layer = self._layers[half // 2]
        assert isinstance(layer, DecoderLayer)  # for the type checker: ModuleList forgets
        return layer

    def _attend(
        self, layer: DecoderLayer, index: int, x: Tensor, context: ForwardContext, plan: AttentionPlan
    ) -> Tensor:
        attention = layer.self_attn
        heads = attention.qkv(x).view(x.shape[0], -1, attention.head_dim)
        keys, values = context.kv.layer(index)
        fused_kernels.rotate_and_store(heads, plan.rotations, keys, values, context.new_slots, self._rotary_dim)
        mixed = attend_stored(heads[:, : attention.heads], index, context, plan)
        return row_parallel(attention.o_proj, mixed.flatten(1), attention.comm)


class FusedBlocks:
    """A vision tower's blocks."""

    def __init__(self, blocks: VisionBlocks) -> None:
        self._blocks = [block for block in blocks if isinstance(block, VisionBlock)]

    def fits(self, x: Tensor, geometry: Geometry) -> bool:  # noqa: ARG002
        """As :class:`autoglm.model.vision.BlockKernels` says: all rows are for them."""
        return True

    def run(self, x: Tensor, geometry: Geometry) -> Tensor:
        """As :class:`autoglm.model.vision.BlockKernels` says."""
        x = x.contiguous()
        normed = self._blocks[0].norm1(x)
        for index, block in enumerate(self._blocks):
            attention = block.attn
            qkv = attention.qkv(normed).view(x.shape[0], 3, attention.heads, attention.head_dim)
            fused_kernels.rotate_halves(qkv, geometry.cos, geometry.sin)
            q, k, v = qkv.unbind(1)
            mixed = attention.mixed(q, k, v, geometry.share)
            x, normed = fused_kernels.add_then_norm(x, mixed, block.norm2.weight, block.norm2.eps)
            added = feed_forward(block.mlp, normed)
            if index + 1 == len(self._blocks):
                return x + added
            following = self._blocks[index + 1].norm1
            x, normed = fused_kernels.add_then_norm(x, added, following.weight, following.eps)
        return x


def feed_forward(mlp: SwiGLU, x: Tensor) -> Tensor:
    """The module, with its activation and product in one reading."""
    return row_parallel(mlp.down_proj, fused_kernels.silu_mul(mlp.gate_up(x)), mlp.comm)


def fuse(model: Model) -> bool:
    """Set the fused layers of a model on CUDA, if they give what its modules give; the log says why not."""
    reason = "Triton or CUDA is missing"
    if paged_kernel.available(model.device):
        reason = _differs(model)
    if reason:
        log.info("layers run unfused: %s", reason)
        return False
    model.decoder.kernels = FusedLayers(model.decoder)
    if model.has_tower:
        model.visual.blocks.kernels = FusedBlocks(model.visual.blocks)
    return True


@torch.inference_mode()
def _differs(model: Model) -> str:
    """Why not, by trial of the norms and the activation in the model's shapes; empty: they are alike."""
    layer = next(layer for layer in model.decoder.layers if isinstance(layer, DecoderLayer))
    norm: RMSNorm = layer.post_mlp_layernorm
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(3, *norm.shape, generator=generator).to(norm.weight) for _ in range(2))
    wide = torch.randn(3, 2 * 1000, generator=generator).to(norm.weight)
    gate, up = wide.chunk(2, dim=-1)
    try:
        pairs = (
            (fused_kernels.add_norm(x, y, norm.weight, norm.eps), x + norm(y)),
            (fused_kernels.silu_mul(wide), F.silu(gate) * up),
        )
        difference = max(float(((found - right).abs() / right.abs().clamp_min(1)).max()) for found, right in pairs)
    except Exception as error:  # a compiler's errors are of its own kinds, and torch can go on without it
        return f"a kernel fails: {type(error).__name__}: {error}"
    return "" if difference <= _TOLERANCE else f"a kernel's results differ by {difference}"
