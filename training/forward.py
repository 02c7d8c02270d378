"""Differentiable forward passes over padded batches, with the modules of the served model.

The engine's own forward writes into paged KV memory, which cannot be differentiated. This one computes the same
function (a test compares the two); rows of padding are left out of all products.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from autoglm.model.autoglm_phone.fusion import GatedCrossAttention
from autoglm.model.autoglm_phone.model import AutoGLMPhoneModel
from autoglm.model.autoglm_phone.vision import VisionTower
from autoglm.model.decoder import DecoderLayer, SelfAttention
from autoglm.model.rope import block_order, rotate_halves, vision_rotary
from autoglm.model.vision import VisionBlock
from training.shape import COLUMNS, COPYING_HEADS, COPYING_LAYER, READING_HEAD, READING_MODULES, ROWS


@dataclass(frozen=True, slots=True)
class Batch:
    """``samples`` sequences of ``length`` tokens, padded on the right; ``k`` neighbours share a screen.

    Attributes:
        ids: int64 ``[samples, length]``.
        lengths: int64 ``[samples]``.
        image_from: int64 ``[samples]``: rows from here on see the screen.
        output_from: int64 ``[samples]``: tokens from here on are to be learnt.
        look: int64 ``[n, 3]``: (sample, row, cell): where the reading head should look at this row.
        copied: int64 ``[n, 3]``: (sample, row, column): the token of the prompt that the copying head should look at.
    """

    ids: Tensor
    lengths: Tensor
    image_from: Tensor
    output_from: Tensor
    look: Tensor
    copied: Tensor


@dataclass(frozen=True, slots=True)
class Result:
    """``logits [rows, vocab]`` and ``targets [rows]`` of the tokens to be learnt, and the taught heads' loss."""

    logits: Tensor
    targets: Tensor
    sample: Tensor
    look_loss: Tensor


def encode_screens(tower: VisionTower, pixels: Tensor) -> Tensor:
    """``[screens, 3, height, width]`` -> ``[screens, cells, hidden_size]``."""
    config, stem = tower.config, tower.stem
    assert stem is not None
    rows, columns = block_order(ROWS, COLUMNS, 1)
    x = tower.pre_norm(tower.patch_embed(stem(pixels)))
    x = x + tower.embeddings(rows.to(x.device), columns.to(x.device), ROWS, COLUMNS)
    cos, sin = vision_rotary(rows, columns, config.head_dim, config.rope_theta)
    cos, sin = cos.to(x.device), sin.to(x.device)
    for block in tower.blocks:
        assert isinstance(block, VisionBlock)
        x = _vision_block(block, x, cos, sin)
    out: Tensor = tower.projector(tower.post_norm(x))
    return out


def _vision_block(block: VisionBlock, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    screens, cells, width = x.shape
    heads = block.attn.heads
    q, k, v = block.attn.qkv(block.norm1(x)).view(screens, cells, 3, heads, width // heads).unbind(2)
    q, k = rotate_halves(q, cos, sin), rotate_halves(k, cos, sin)
    q, k, v = (t.transpose(1, 2).float() for t in (q, k, v))
    with torch.autocast("cpu", enabled=False):  # as below
        mixed = F.scaled_dot_product_attention(q, k, v)
    x = x + block.attn.proj(mixed.transpose(1, 2).reshape(screens, cells, width))
    out: Tensor = x + block.mlp(block.norm2(x))
    return out


_Heads = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values, ``[samples, heads, length, dim]``."""


class _Rows:
    """Between ``[samples, length, ...]`` and the rows that are no padding, or those of them that see the screen."""

    def __init__(self, first: Tensor, lengths: Tensor) -> None:
        self.first = first
        self.shape = (len(lengths), int((lengths - first).max()))
        at = torch.arange(self.shape[1], device=lengths.device)
        self.index = (at < (lengths - first)[:, None]).flatten().nonzero()[:, 0]
        self.sample = self.index // self.shape[1]
        self.column = self.index % self.shape[1] + first[self.sample]

    def pack(self, x: Tensor) -> Tensor:
        return x.flatten(0, 1)[self.index]

    def spread(self, x: Tensor) -> Tensor:
        full = x.new_zeros(self.shape[0] * self.shape[1], *x.shape[1:])
        return full.index_copy(0, self.index, x).view(*self.shape, *x.shape[1:])


def run(model: AutoGLMPhoneModel, batch: Batch, visual: Tensor) -> Result:
    """All layers. ``visual [screens, cells, hidden_size]``; ``samples`` is a multiple of ``screens``."""
    rows = _Rows(torch.zeros_like(batch.lengths), batch.lengths)
    seeing = _Rows(batch.image_from, batch.lengths)
    sees = (rows.column >= batch.image_from[rows.sample]).nonzero()[:, 0]
    hidden = model.embed_tokens(batch.ids[rows.sample, rows.column])
    at = torch.arange(rows.shape[1], device=hidden.device)
    rotations = model.decoder.rope.rotations(at.expand(3, -1))[None]
    fusion = {layer: i for i, layer in enumerate(model.config.fusion.layers)}
    look_loss = hidden.new_zeros(())
    mask: Tensor | None = None
    for index, layer in enumerate(model.decoder.layers):
        assert isinstance(layer, DecoderLayer)
        if index == model.config.fusion.layers[0]:
            mask = _log_mask(model, hidden[sees], seeing, visual)
        attended, heads = _self_attention(layer.self_attn, layer.input_layernorm(hidden), rows, rotations)
        if index == COPYING_LAYER and batch.copied.numel():
            look_loss = look_loss + _copy_loss(model, layer, heads, batch)
        hidden = hidden + layer.post_self_attn_layernorm(attended)
        if index in fusion:
            assert mask is not None
            module = model.cross_attention[fusion[index]]
            added, q, k = _cross_attention(module, hidden[sees], seeing, visual, mask)
            hidden = hidden.index_add(0, sees, added.to(hidden.dtype))
            if fusion[index] < READING_MODULES and batch.look.numel():
                look_loss = look_loss + _look_loss(q, k, mask, batch.look, seeing) / READING_MODULES
        hidden = layer.feed_forward(hidden)
    return _result(model, hidden, batch, rows, look_loss)


def _self_attention(
    module: SelfAttention, x: Tensor, rows: _Rows, rotations: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """What each packed row takes of those before it, and its heads."""
    heads = rows.spread(module.qkv(x).float()).view(*rows.shape, -1, module.head_dim)
    turned, v = torch.split(heads, [module.heads + module.kv_heads, module.kv_heads], dim=2)
    rotary = rotations.shape[-1] * 2
    pairs = torch.view_as_complex(turned[..., :rotary].float().reshape(*turned.shape[:3], rotary // 2, 2))
    first = torch.view_as_real(pairs * rotations).flatten(-2).to(turned.dtype)
    q, k = torch.split(torch.cat([first, turned[..., rotary:]], dim=-1), [module.heads, module.kv_heads], dim=2)
    group = module.heads // module.kv_heads
    q = q.transpose(1, 2)
    k, v = (t.transpose(1, 2).repeat_interleave(group, 1) for t in (k, v))
    with torch.autocast("cpu", enabled=False):  # attention's backward pass is five times slower in bfloat16
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return module.o_proj(rows.pack(mixed.transpose(1, 2).flatten(2))), (q, k, v)


def _log_mask(model: AutoGLMPhoneModel, hidden: Tensor, rows: _Rows, visual: Tensor) -> Tensor:
    """``[screens, samples per screen * length, cells]``."""
    gate = model.time_gate
    queries = rows.spread(gate.text_queries(hidden)).reshape(visual.shape[0], -1, gate.rank)
    similarity = (queries @ gate.visual_keys(visual).transpose(1, 2)).float()
    return F.logsigmoid(gate.scale * gate.rank**-0.5 * similarity + gate.bias)


def _cross_attention(
    module: GatedCrossAttention, hidden: Tensor, rows: _Rows, visual: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What is added to each packed row; its queries and the keys, ``[screens, heads, rows or cells, dim]``."""
    screens, cells = visual.shape[:2]
    shape = (screens, cells, module.num_kv_heads, module.head_dim)
    k = module.k_norm(module.k_proj(visual).float().view(shape)).transpose(1, 2)
    v = module.v_proj(visual).float().view(shape).transpose(1, 2)
    q = module.q_norm(module.q_proj(module.norm(hidden)).float().view(len(hidden), -1, module.head_dim))
    q = rows.spread(q).reshape(screens, -1, module.num_heads, module.head_dim).transpose(1, 2)
    group = module.num_heads // module.num_kv_heads
    ke, ve = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    with torch.autocast("cpu", enabled=False):
        bias = mask[:, None].expand(-1, q.shape[1], -1, -1).flatten(0, 1)
        keys = ke.flatten(0, 1).transpose(1, 2)
        scores = torch.baddbmm(bias, q.flatten(0, 1), keys, alpha=q.shape[-1] ** -0.5)
        mixed = (scores.softmax(-1) @ ve.flatten(0, 1)).view(q.shape)
    flat = mixed.transpose(1, 2).reshape(*rows.shape, -1)
    return torch.tanh(module.gate) * module.o_proj(rows.pack(flat)), q, k


def _copy_loss(model: AutoGLMPhoneModel, layer: DecoderLayer, heads: _Heads, batch: Batch) -> Tensor:
    """How far the copying heads are from looking at the token to be copied, and from saying it alone."""
    q, k, v = heads
    sample, row, column = batch.copied.unbind(1)
    later = torch.arange(k.shape[2], device=row.device) > row[:, None]
    weight = layer.self_attn.o_proj.weight.view(-1, q.shape[1], q.shape[-1])
    loss, said = q.new_zeros(()), q.new_zeros(())
    for head in COPYING_HEADS:
        scores = torch.einsum("nd,nld->nl", q[sample, head, row], k[:, head][sample]) * q.shape[-1] ** -0.5
        loss = loss + F.cross_entropy(scores.masked_fill(later, -torch.inf), column) / len(COPYING_HEADS)
        said = said + F.linear(v[sample, head, column], weight[:, head])
    logits = F.linear(model.decoder.norm(layer.post_self_attn_layernorm(said)), model.lm_head.weight)
    return loss + F.cross_entropy(logits.float(), batch.ids[sample, column])


def _look_loss(q: Tensor, k: Tensor, mask: Tensor, look: Tensor, rows: _Rows) -> Tensor:
    """Cross-entropy of the reading head's attention with the cell it should look at."""
    sample, row, cell = look.unbind(1)
    length = rows.shape[1]
    per_screen = q.shape[2] // length
    screen, at = sample // per_screen, sample % per_screen * length + row - rows.first[sample]
    query, keys = q[screen, READING_HEAD, at], k[:, READING_HEAD][screen]
    scores = torch.einsum("nd,ncd->nc", query, keys) * q.shape[-1] ** -0.5 + mask[screen, at]
    return F.cross_entropy(scores, cell)


def _result(model: AutoGLMPhoneModel, hidden: Tensor, batch: Batch, rows: _Rows, look_loss: Tensor) -> Result:
    """Logits of the rows before the tokens to be learnt."""
    sample, column = rows.sample, rows.column
    wanted = (column + 1 >= batch.output_from[sample]) & (column + 1 < batch.lengths[sample])
    chosen = wanted.nonzero()[:, 0]
    targets = batch.ids[sample[chosen], column[chosen] + 1]
    logits = F.linear(model.decoder.norm(hidden[chosen]), model.lm_head.weight).float()
    return Result(logits, targets, sample[chosen], look_loss)
