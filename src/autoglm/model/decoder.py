"""The GLM decoder: sandwich norms, fused QKV with bias, partial M-RoPE, SwiGLU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from autoglm.model.attention import AttentionPlan, attend
from autoglm.model.config import TextConfig
from autoglm.model.context import ForwardContext, KVSpec
from autoglm.model.layers import FusedLinear, RMSNorm, Spread, SwiGLU, row_parallel
from autoglm.model.rope import TextRope

AfterAttention = Callable[[int, Tensor], Tensor]
"""``hook(layer, hidden) -> hidden``, called between self-attention and the MLP (gated cross-attention)."""


class LayerKernels(Protocol):
    """Computes layers instead of these modules, from the same weights; see :mod:`autoglm.model.native.prefill`."""

    def plan(self, context: ForwardContext, rotations: Tensor) -> AttentionPlan | None:
        """Of a step that is one for them, ``by_kernels``; else ``None``. ``rotations``: as :class:`TextRope` makes
        them."""

    def run(self, hidden: Tensor, context: ForwardContext, plan: AttentionPlan, first: int, last: int) -> Tensor:
        """Half layers: ``2 l`` is the attention of layer ``l``, ``2 l + 1`` its feed-forward. A call that ends with
        the last layer and has both its halves gives ``output_rows`` only."""


class SelfAttention(Spread):
    """Grouped-query self-attention over the paged KV."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.num_heads, config.num_kv_heads, config.head_dim
        parts = (("q_proj", config.q_size), ("k_proj", config.kv_size), ("v_proj", config.kv_size))
        self.qkv = FusedLinear(config.hidden_size, parts, bias=True)
        self.o_proj = nn.Linear(config.q_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor, layer: int, rope: TextRope, context: ForwardContext, plan: AttentionPlan) -> Tensor:
        heads = self.qkv(x).view(x.shape[0], -1, self.head_dim)
        rope.apply(heads[:, : self.heads + self.kv_heads], plan.rotations)
        q, k, v = heads.split((self.heads, self.kv_heads, self.kv_heads), dim=1)
        return row_parallel(self.o_proj, attend(q, k, v, layer, context, plan).flatten(1), self.comm)


class DecoderLayer(nn.Module):
    """One layer. Beware the names: ``post_attention_layernorm`` is the norm *before* the MLP."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        size, eps = config.hidden_size, config.rms_norm_eps
        self.input_layernorm = RMSNorm(size, eps)
        self.self_attn = SelfAttention(config)
        self.post_self_attn_layernorm = RMSNorm(size, eps)
        self.post_attention_layernorm = RMSNorm(size, eps)
        self.mlp = SwiGLU(size, config.intermediate_size, "gate_up_proj")
        self.post_mlp_layernorm = RMSNorm(size, eps)

    def attention(self, x: Tensor, layer: int, rope: TextRope, context: ForwardContext, plan: AttentionPlan) -> Tensor:
        """First half, with its residual."""
        attended = self.self_attn(self.input_layernorm(x), layer, rope, context, plan)
        out: Tensor = x + self.post_self_attn_layernorm(attended)
        return out

    def feed_forward(self, x: Tensor) -> Tensor:
        """Second half, with its residual."""
        out: Tensor = x + self.post_mlp_layernorm(self.mlp(self.post_attention_layernorm(x)))
        return out


class Decoder(nn.Module):
    """Embeddings, layers and final norm; the head belongs to the whole model.

    Attributes:
        kernels: run the steps that fit them.
    """

    kernels: LayerKernels | None = None

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rope = TextRope(config.rotary_dim, config.rope_theta, config.mrope_section)

    def plan(self, context: ForwardContext) -> AttentionPlan:
        """Once per step, for all layers."""
        rotations = self.rope.rotations(context.positions)
        plan = None if self.kernels is None else self.kernels.plan(context, rotations)
        return AttentionPlan.of(context, rotations) if plan is None else plan

    def run_layers(
        self,
        hidden: Tensor,
        context: ForwardContext,
        plan: AttentionPlan,
        first: int,
        last: int,
        after_attention: AfterAttention | None = None,
    ) -> Tensor:
        """Layers ``first`` to ``last - 1`` on ``hidden [rows, hidden_size]``; the last one gives ``output_rows``."""
        if plan.by_kernels:
            return self._run_kernels(hidden, context, plan, first, last, after_attention)
        for index in range(first, last):
            layer = self.layers[index]
            assert isinstance(layer, DecoderLayer)  # for the type checker: ModuleList forgets
            hidden = layer.attention(hidden, index, self.rope, context, plan)
            if after_attention is not None:
                hidden = after_attention(index, hidden)
            if index == len(self.layers) - 1 and context.output_rows is not None:
                hidden = hidden[context.output_rows]
            hidden = layer.feed_forward(hidden)
        return hidden

    def _run_kernels(
        self,
        hidden: Tensor,
        context: ForwardContext,
        plan: AttentionPlan,
        first: int,
        last: int,
        after_attention: AfterAttention | None,
    ) -> Tensor:
        assert self.kernels is not None
        run = partial(self.kernels.run, context=context, plan=plan)
        if after_attention is None:
            return run(hidden, first=2 * first, last=2 * last) if first < last else hidden
        done = 2 * first
        for index in range(first, last):
            hidden = after_attention(index, run(hidden, first=done, last=2 * index + 1))
            done = 2 * index + 1
            if index == len(self.layers) - 1 and context.output_rows is not None:
                hidden = hidden[context.output_rows]
        return run(hidden, first=done, last=2 * last)

    def forward(self, hidden: Tensor, context: ForwardContext) -> Tensor:
        """All layers, without the final norm (only rows that need logits get it)."""
        return self.run_layers(hidden, context, self.plan(context), 0, len(self.layers))


def kv_spec(decoder: Decoder, dtype: torch.dtype) -> KVSpec:
    """KV memory of a decoder, or of the part of it that this rank holds."""
    held = [index for index, layer in enumerate(decoder.layers) if isinstance(layer, DecoderLayer)]
    attention = next(m for m in decoder.modules() if isinstance(m, SelfAttention))
    return KVSpec(len(held), attention.kv_heads, attention.head_dim, dtype, held[0])
