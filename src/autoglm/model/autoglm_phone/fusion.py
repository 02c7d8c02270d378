"""Gated cross-attention: how the deeper decoder layers read the image.

A module stands after the self-attention of its layer and adds ``tanh(gate) * attention`` to the residual
stream (Flamingo's gating, Llama 3.2's placement and q/k norms). With ``gate`` 0 the text model is unchanged.
Keys and values depend on the image alone: they are computed once, by :meth:`GatedCrossAttention.visual_kv`,
and read by every row, step and session that sees the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoglm.model.autoglm_phone.config import FusionConfig
from autoglm.model.autoglm_phone.time_gate import TimeGate
from autoglm.model.context import ImageFeatures, VisualSpan
from autoglm.model.layers import RMSNorm, Spread, row_parallel


def pack_features(keys_values: Sequence[tuple[Tensor, Tensor]], gate_keys: Tensor) -> ImageFeatures:
    """``tensors`` = key 0, value 0, key 1, value 1, ... per module ``[kv_heads, tokens, head_dim]``, then the time
    gate's keys ``[tokens, rank]``."""
    return ImageFeatures((*(t for pair in keys_values for t in pair), gate_keys))


@dataclass(frozen=True, slots=True)
class SpanRead:
    """One visual span of a step: rows ``[start, stop)`` of the gathered rows, their images, and ``log M``."""

    start: int
    stop: int
    features: tuple[ImageFeatures, ...]
    log_mask: Tensor

    def keys_values(self, module: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one module over all visible images, ``[kv_heads, tokens, head_dim]``."""
        if len(self.features) == 1:
            tensors = self.features[0].tensors
            return tensors[2 * module], tensors[2 * module + 1]
        keys = torch.cat([f.tensors[2 * module] for f in self.features], dim=1)
        values = torch.cat([f.tensors[2 * module + 1] for f in self.features], dim=1)
        return keys, values


@dataclass(frozen=True, slots=True)
class VisualPlan:
    """What a step's rows read of images; made once per step and used by every module.

    Attributes:
        rows: int64, the rows that see an image; None if all do.
        spans: their images, over the gathered rows.
    """

    rows: Tensor | None
    spans: tuple[SpanRead, ...]

    @classmethod
    def of(cls, hidden: Tensor, visual: Sequence[VisualSpan], gate: TimeGate) -> VisualPlan | None:
        """Plan the reads of ``hidden`` (``[rows, hidden]``, the text stream's output); None if no row sees an image."""
        seen = sorted((s for s in visual if s.features and s.row_start < s.row_end), key=lambda s: s.row_start)
        if not seen:
            return None
        if any(a.row_end > b.row_start for a, b in pairwise(seen)):
            raise ValueError("visual spans of one step overlap")
        count = sum(span.row_end - span.row_start for span in seen)
        rows = None
        if count != hidden.shape[0]:
            ranges = [torch.arange(s.row_start, s.row_end, device=hidden.device) for s in seen]
            rows = torch.cat(ranges)
        reads, start = [], 0
        for span in seen:
            stop = start + span.row_end - span.row_start
            queries = gate.text_queries(hidden[span.row_start : span.row_end])
            masks = [gate.log_mask(queries, f.tensors[-1]) for f in span.features]
            log_mask = masks[0] if len(masks) == 1 else torch.cat(masks, dim=1)
            reads.append(SpanRead(start, stop, span.features, log_mask))
            start = stop
        return cls(rows, tuple(reads))


def attend(q: Tensor, k: Tensor, v: Tensor, log_mask: Tensor) -> Tensor:
    """Grouped-query attention with an additive mask.

    Args:
        q: ``[rows, heads, head_dim]``.
        k, v: ``[kv_heads, tokens, head_dim]``; heads of one group are neighbours.
        log_mask: ``[rows, tokens]``.

    Returns:
        ``[rows, heads * head_dim]``.
    """
    rows, heads, dim = q.shape
    groups = k.shape[0]
    if rows == 1:  # decode: the group's heads are the rows of one matrix, so keys are read once per group
        mixed = F.scaled_dot_product_attention(q.view(1, groups, -1, dim), k[None], v[None], log_mask[None, None])
        return mixed.reshape(1, heads * dim)
    grouped = q.view(rows, groups, heads // groups, dim).permute(1, 2, 0, 3)
    shared = [t[:, None].expand(-1, heads // groups, -1, -1) for t in (k, v)]
    mixed = F.scaled_dot_product_attention(grouped, shared[0], shared[1], log_mask[None, None])
    return mixed.permute(2, 0, 1, 3).reshape(rows, heads * dim)


class GatedCrossAttention(Spread):
    """Weights: ``norm``, ``q_proj``, ``k_proj``, ``v_proj``,
    ``q_norm``, ``k_norm``, ``o_proj``, ``gate``; no bias."""

    def __init__(self, config: FusionConfig, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads = config.num_heads, config.num_kv_heads
        self.head_dim = config.head_dim
        self.norm = RMSNorm(hidden_size, eps)
        self.q_proj = nn.Linear(hidden_size, config.num_heads * config.head_dim, bias=False)
        self.k_proj = nn.Linear(hidden_size, config.num_kv_heads * config.head_dim, bias=False)
        self.v_proj = nn.Linear(hidden_size, config.num_kv_heads * config.head_dim, bias=False)
        self.q_norm = RMSNorm(config.head_dim, eps)
        self.k_norm = RMSNorm(config.head_dim, eps)
        self.o_proj = nn.Linear(config.num_heads * config.head_dim, hidden_size, bias=False)
        self.gate = nn.Parameter(torch.zeros(()))

    def visual_kv(self, visual: Tensor) -> tuple[Tensor, Tensor]:
        """``[tokens, hidden]`` projected visual features -> keys and values ``[kv_heads, tokens, head_dim]``."""
        shape = (visual.shape[0], self.num_kv_heads, self.head_dim)
        keys = self.k_norm(self.k_proj(visual).view(shape)).transpose(0, 1).contiguous()
        values = self.v_proj(visual).view(shape).transpose(0, 1).contiguous()
        return keys, values

    def forward(self, hidden: Tensor, plan: VisualPlan, module: int) -> Tensor:
        """Add what the rows of ``plan`` see to ``hidden`` (``[rows, hidden]``); other rows come back bit-equal."""
        x = hidden if plan.rows is None else hidden[plan.rows]
        q = self.q_norm(self.q_proj(self.norm(x)).view(x.shape[0], self.num_heads, self.head_dim))
        parts = [attend(q[s.start : s.stop], *s.keys_values(module), s.log_mask) for s in plan.spans]
        seen = row_parallel(self.o_proj, parts[0] if len(parts) == 1 else torch.cat(parts), self.comm)
        added = torch.tanh(self.gate) * seen
        return hidden + added if plan.rows is None else hidden.index_add(0, plan.rows, added)
