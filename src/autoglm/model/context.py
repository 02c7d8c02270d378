"""What one forward pass needs to know beyond its input rows.

A step's rows are the concatenation of each sequence's new tokens (a prefill chunk, or one decode token).
The engine fills a :class:`ForwardContext`, so that model signatures stay ``(hidden, context)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from autoglm.model.paged import PagedRows


@dataclass(frozen=True, slots=True)
class KVSpec:
    """Shape of the self-attention KV of a model, per layer. A pipeline stage's layers begin at ``first_layer``."""

    num_layers: int
    num_kv_heads: int
    head_dim: int
    dtype: torch.dtype
    first_layer: int = 0

    @property
    def bytes_per_token(self) -> int:
        """Bytes of keys and values that one token takes over all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * self.dtype.itemsize


class KVStore:
    """Keys and values of all layers; ``keys[layer]``, ``values[layer]``: ``[kv_heads, slots, head_dim]``.

    Heads come first, so that a contiguous run of slots is a batched matrix without a copy. Slots are handed
    out by ``cache/``; this class only holds the memory. It is not cleared: pages nobody wrote stay untouched, and
    a slot is never read before it is written.
    """

    def __init__(self, spec: KVSpec, num_slots: int, device: torch.device) -> None:
        shape = (spec.num_layers, spec.num_kv_heads, num_slots, spec.head_dim)
        self.spec = spec
        self.keys = torch.empty(shape, dtype=spec.dtype, device=device)
        self.values = torch.empty(shape, dtype=spec.dtype, device=device)
        self._layers = list(zip(self.keys.unbind(0), self.values.unbind(0), strict=True))

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer, each ``[kv_heads, slots, head_dim]``."""
        return self._layers[index - self.spec.first_layer]

    def copy_slots(self, source: Tensor, target: Tensor) -> None:
        """Copy KV rows of all layers between slots (copy-on-write of a partly matching block)."""
        self.keys[:, :, target] = self.keys[:, :, source]
        self.values[:, :, target] = self.values[:, :, source]


@dataclass(frozen=True, slots=True)
class VisualSpan:
    """Rows of the step that may look at an image (gated cross-attention; mask rule of the architecture).

    Attributes:
        row_start, row_end: rows of the flat batch.
        features: one entry per image visible to these rows, as returned by ``encode_images``.
    """

    row_start: int
    row_end: int
    features: tuple[ImageFeatures, ...]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class ImageFeatures:
    """Everything a vision tower computed for one image; owned and sized by ``cache/``.

    ``glm4v``: ``tensors[0]`` is ``[num_tokens, hidden]``, spliced into the sequence's embeddings.
    ``autoglm_phone``: the cross-attention keys and values of every module and the time gate's keys,
    so that decoding reads them as they are.
    """

    tensors: tuple[Tensor, ...]

    @property
    def nbytes(self) -> int:
        return sum(t.nbytes for t in self.tensors)


@dataclass(slots=True)
class SequenceSlice:
    """One sequence's part of a step.

    Attributes:
        query_start, query_len: its rows in the flat batch.
        context_len: its KV length after this step (cached + new rows).
        slots: int64 ``[context_len]``, the slot of each position; or
        run_start: first slot, if the slots are one contiguous run (then ``slots`` is not read).
    """

    query_start: int
    query_len: int
    context_len: int
    slots: Tensor | None
    run_start: int | None = None


@dataclass(slots=True)
class ForwardContext:
    """One step.

    Attributes:
        positions: int64 ``[3, rows]`` (temporal, height, width), equal rows for text.
        new_slots: int64 ``[rows]``, where each row's KV is written.
        sequences: in the order of their rows.
        visual: empty for ``glm4v``.
        output_rows: int64, the rows whose result is wanted; ``None``: all. The last layer's MLP, most of that layer,
            is computed for these only.
        paged: every row is one token, and attends through block tables; ``sequences`` is not read.
    """

    positions: Tensor
    new_slots: Tensor
    sequences: list[SequenceSlice]
    kv: KVStore
    visual: list[VisualSpan] = field(default_factory=list)
    output_rows: Tensor | None = None
    paged: PagedRows | None = None
