"""Attention of single rows through block tables: one call for a whole decode step, of shapes that stay the same.

Unlike :func:`autoglm.model.attention.attend`, nothing here depends on Python's knowledge of a sequence: tables and
lengths are tensors, so that a recorded step reads the next one's. :func:`gather` is the form that runs everywhere;
:mod:`autoglm.model.cuda.paged_kernel` reads the blocks where they lie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class PagedRows:
    """Each row of a step is one token; what it attends to.

    Attributes:
        tables: int32 ``[rows, columns]``, the blocks of each row's sequence in order; behind its last, anything valid.
        lengths: int64 ``[rows]``, tokens it sees, itself included; at least 1.
        block_size: slots of a block.
        attention: ``attention(q, keys, values, rows)``, as :func:`gather`.
    """

    tables: Tensor
    lengths: Tensor
    block_size: int
    attention: PagedAttention


PagedAttention = Callable[[Tensor, Tensor, Tensor, PagedRows], Tensor]


def gather(q: Tensor, keys: Tensor, values: Tensor, rows: PagedRows) -> Tensor:
    """Copies each row's keys and values together, to the full width of the tables, and lets torch attend.

    Args:
        q: ``[rows, heads, head_dim]``. keys, values: ``[kv_heads, slots, head_dim]`` of one layer.

    Returns:
        ``[rows, heads, head_dim]``.
    """
    count, heads, dim = q.shape
    kv_heads, size = keys.shape[0], rows.block_size
    offsets = torch.arange(size, device=q.device)
    slots = (rows.tables.long()[:, :, None] * size + offsets).flatten(1)
    seen = torch.arange(slots.shape[1], device=q.device) < rows.lengths[:, None]
    # What was never written may be no number, and no weight of zero takes that away: read the first token instead.
    slots = torch.where(seen, slots, slots[:, :1])
    folded = q.reshape(count, kv_heads, heads // kv_heads, dim).transpose(0, 1)
    out = F.scaled_dot_product_attention(folded, keys[:, slots], values[:, slots], attn_mask=seen[:, None, :])
    return out.transpose(0, 1).reshape(count, heads, dim)
