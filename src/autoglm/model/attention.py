"""Self-attention over the paged KV of a step.

Rows of many sequences share the projections; the score products are per sequence. On CPU a contiguous run of
slots is read in place, anything else is gathered; both cost no expansion of the few KV heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from autoglm.model.context import ForwardContext, SequenceSlice


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """What all layers of a step have in common.

    Attributes:
        by_kernels: the layers are not computed by these modules, and need no masks.
    """

    rotations: Tensor
    masks: list[Tensor | None]
    by_kernels: bool = False

    @classmethod
    def of(cls, context: ForwardContext, rotations: Tensor) -> AttentionPlan:
        device = context.new_slots.device
        return cls(rotations, [_mask(s, context.kv.spec.dtype, device) for s in context.sequences])


def attend(q: Tensor, k: Tensor, v: Tensor, layer: int, context: ForwardContext, plan: AttentionPlan) -> Tensor:
    """Write this step's keys and values, then attend.

    Args:
        q: ``[rows, heads, head_dim]``, rotated. k, v: ``[rows, kv_heads, head_dim]``.

    Returns:
        ``[rows, heads, head_dim]``.
    """
    keys, values = context.kv.layer(layer)
    keys.index_copy_(1, context.new_slots, k.transpose(0, 1))
    values.index_copy_(1, context.new_slots, v.transpose(0, 1))
    return attend_stored(q, layer, context, plan)


def attend_stored(q: Tensor, layer: int, context: ForwardContext, plan: AttentionPlan) -> Tensor:
    """:func:`attend`, with this step's keys and values in the memory already."""
    keys, values = context.kv.layer(layer)
    if context.paged is not None:
        return context.paged.attention(q, keys, values, context.paged)
    if len(context.sequences) == 1:
        return _attend_one(q, keys, values, context.sequences[0], plan.masks[0])
    out = torch.empty_like(q)
    for sequence, mask in zip(context.sequences, plan.masks, strict=True):
        start, end = sequence.query_start, sequence.query_start + sequence.query_len
        out[start:end] = _attend_one(q[start:end], keys, values, sequence, mask)
    return out


def _attend_one(q: Tensor, keys: Tensor, values: Tensor, sequence: SequenceSlice, mask: Tensor | None) -> Tensor:
    length = sequence.context_len
    if sequence.run_start is not None:
        k = keys.narrow(1, sequence.run_start, length)
        v = values.narrow(1, sequence.run_start, length)
    elif sequence.slots is not None:
        k, v = keys.index_select(1, sequence.slots), values.index_select(1, sequence.slots)
    else:
        raise ValueError("a sequence needs slots or run_start")
    rows, heads, dim = q.shape
    kv_heads = k.shape[0]
    group = heads // kv_heads
    if rows == 1:
        # One new token: the heads of a group are the query rows of one product, so K is read once.
        folded = q.view(kv_heads, 1, group, dim)
        return F.scaled_dot_product_attention(folded, k.unsqueeze(1), v.unsqueeze(1)).view(1, heads, dim)
    grouped = q.view(rows, kv_heads, group, dim).permute(1, 2, 0, 3)
    out = F.scaled_dot_product_attention(
        grouped,
        k.unsqueeze(1).expand(kv_heads, group, length, dim),
        v.unsqueeze(1).expand(kv_heads, group, length, dim),
        attn_mask=mask,
        is_causal=mask is None,
    )
    return out.permute(2, 0, 1, 3).reshape(rows, heads, dim)


def _mask(sequence: SequenceSlice, dtype: torch.dtype, device: torch.device) -> Tensor | None:
    """Bottom-right causal mask ``[query_len, context_len]``; ``None`` where plain causal (or none) is right.

    It is added to scores: of a Boolean one, every layer would make such a matrix for itself.
    """
    rows, length = sequence.query_len, sequence.context_len
    if rows in (1, length):
        return None
    return torch.full((rows, length), float("-inf"), dtype=dtype, device=device).triu_(length - rows + 1)
