"""Paged attention of decode rows as Triton kernels: keys and values are read where they lie, once for a group of heads.

A row's context is cut into splits, so that few rows fill the device too (Flash-Decoding, Dao et al. 2023); a second
kernel joins them. Scores, weights and sums are float32. Triton is imported where it is used only. With
``TRITON_INTERPRET=1`` set before that, the very same kernels run on the CPU, slowly: that is how they are tested.
"""

from __future__ import annotations

import math
import os
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from autoglm.model.paged import PagedRows

TILE = 64
"""Tokens read at once."""
MAX_SPLITS = 32
_LEAST_ROWS = 16
"""Rows a tensor core multiplies; a group of fewer heads is padded."""


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def available(device: torch.device) -> bool:
    """Whether the kernels can run on tensors of this device."""
    return find_spec("triton") is not None and (device.type == "cuda" or interpreted())


def unfit(heads: int, kv_heads: int, head_dim: int) -> str | None:
    """Why the kernels cannot attend in these shapes; ``None``: they can."""
    if head_dim < 16 or head_dim & (head_dim - 1):
        return f"a head of {head_dim} values is no power of two from 16 on"
    if heads % kv_heads:
        return f"{heads} heads do not share {kv_heads} KV heads evenly"
    return None


def splits_for(rows: int, kv_heads: int, tokens: int, processors: int) -> int:
    """Parts of each context, a power of two: two programs for each processor, but no part under one tile.

    Args:
        tokens: the longest context. processors: multiprocessors of the device.
    """
    wanted = min(MAX_SPLITS, -(-2 * processors // (rows * kv_heads)), -(-tokens // TILE))
    return 1 << max(0, wanted.bit_length() - 1)


def paged_attention(q: Tensor, keys: Tensor, values: Tensor, rows: PagedRows, splits: int | None = None) -> Tensor:
    """As :func:`autoglm.model.paged.gather`, by kernel.

    Args:
        q: ``[rows, heads, head_dim]``, whose rows may lie apart.
        splits: parts of each context; ``None``: what fills the device.
    """
    count, heads, dim = q.shape
    kv_heads, columns = keys.shape[0], rows.tables.shape[1]
    if splits is None:
        splits = splits_for(count, kv_heads, columns * rows.block_size, processors(q.device))
    out = torch.empty((count, heads, dim), dtype=q.dtype, device=q.device)
    parts = torch.empty((count, heads, splits, dim), dtype=torch.float32, device=q.device) if splits > 1 else out
    sums = torch.empty((count, heads, splits, 2), dtype=torch.float32, device=q.device) if splits > 1 else out
    if q.stride(2) != 1 or q.stride(1) != dim:
        q = q.contiguous()
    group = heads // kv_heads
    _attend_kernel()[(count, kv_heads, splits)](
        q,
        keys,
        values,
        rows.tables,
        rows.lengths,
        parts,
        sums,
        q.stride(0),
        keys.stride(0),
        rows.tables.stride(0),
        math.log2(math.e) / math.sqrt(dim),
        GROUP=group,
        PADDED=max(_LEAST_ROWS, 1 << (group - 1).bit_length()),
        DIM=dim,
        BLOCK=rows.block_size,
        TILE=TILE,
        SPLITS=splits,
        # The interpreter multiplies bfloat16 as the integers it is stored in; widened, the products are the same.
        WIDEN=interpreted() and keys.dtype == torch.bfloat16,
    )
    if splits > 1:
        _join_kernel()[(count, heads)](parts, sums, out, DIM=dim, SPLITS=splits)
    return out


@cache
def processors(device: torch.device) -> int:
    """Multiprocessors of a card; 1 elsewhere."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


# fmt: off
# ruff: noqa: N803 - compile-time arguments are written in capitals, as Triton's own are


@cache
def _attend_kernel() -> Any:
    """Compiled on first use. Triton reads the function's source, so it is written out here."""
    import triton
    import triton.language as tl

    @triton.jit  # type: ignore[untyped-decorator, unused-ignore]
    def attend(q, keys, values, tables, lengths, out, sums, row_stride, head_stride, table_stride, scale,  # type: ignore[no-untyped-def]
               GROUP: tl.constexpr, PADDED: tl.constexpr, DIM: tl.constexpr, BLOCK: tl.constexpr,
               TILE: tl.constexpr, SPLITS: tl.constexpr, WIDEN: tl.constexpr):
        row, kv_head, split = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64), tl.program_id(2)
        length = tl.load(lengths + row).to(tl.int32)
        share = (((length + TILE - 1) // TILE) + SPLITS - 1) // SPLITS * TILE
        start = split * share
        end = tl.minimum(start + share, length)
        member, dims = tl.arange(0, PADDED), tl.arange(0, DIM)
        head, real = kv_head * GROUP + member, member < GROUP
        query = tl.load(q + row * row_stride + head[:, None] * DIM + dims[None, :], mask=real[:, None], other=0.0)
        highest = tl.full([PADDED], float("-inf"), tl.float32)
        total = tl.zeros([PADDED], tl.float32)
        mixed = tl.zeros([PADDED, DIM], tl.float32)
        for first in range(start, end, TILE):
            token = first + tl.arange(0, TILE)
            seen = token < end
            block = tl.load(tables + row * table_stride + token // BLOCK, mask=seen, other=0)
            slot = block.to(tl.int64) * BLOCK + token % BLOCK
            at = kv_head * head_stride + slot[:, None] * DIM + dims[None, :]
            k = tl.load(keys + at, mask=seen[:, None], other=0.0)
            v = tl.load(values + at, mask=seen[:, None], other=0.0)
            if WIDEN:
                scores = tl.dot(query.to(tl.float32), tl.trans(k.to(tl.float32)), input_precision="ieee")
            else:
                scores = tl.dot(query, tl.trans(k), input_precision="ieee")
            scores = tl.where(seen[None, :], scores * scale, float("-inf"))
            top = tl.maximum(highest, tl.max(scores, axis=1))
            weights = tl.exp2(scores - top[:, None])
            fade = tl.exp2(highest - top)
            total = total * fade + tl.sum(weights, axis=1)
            rounded = weights.to(values.dtype.element_ty)
            if WIDEN:
                product = tl.dot(rounded.to(tl.float32), v.to(tl.float32), input_precision="ieee")
            else:
                product = tl.dot(rounded, v, input_precision="ieee")
            mixed = mixed * fade[:, None] + product
            highest = top
        one = row * (tl.num_programs(1) * GROUP) + head
        if SPLITS == 1:
            result = (mixed / total[:, None]).to(out.dtype.element_ty)
            tl.store(out + one[:, None] * DIM + dims[None, :], result, mask=real[:, None])
        else:
            part = one * SPLITS + split
            tl.store(out + part[:, None] * DIM + dims[None, :], mixed, mask=real[:, None])
            tl.store(sums + part * 2, highest, mask=real)
            tl.store(sums + part * 2 + 1, total, mask=real)

    return attend


@cache
def _join_kernel() -> Any:
    """As :func:`_attend_kernel`."""
    import triton
    import triton.language as tl

    @triton.jit  # type: ignore[untyped-decorator, unused-ignore]
    def join(parts, sums, out, DIM: tl.constexpr, SPLITS: tl.constexpr):  # type: ignore[no-untyped-def]
        one = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
        part, dims = one * SPLITS + tl.arange(0, SPLITS), tl.arange(0, DIM)
        highest = tl.load(sums + part * 2)
        # The first split is never empty, so the maximum is finite; an empty one has weight 0.
        weight = tl.exp2(highest - tl.max(highest, axis=0))
        total = tl.sum(weight * tl.load(sums + part * 2 + 1), axis=0)
        mixed = tl.load(parts + part[:, None] * DIM + dims[None, :])
        result = tl.sum(mixed * weight[:, None], axis=0) / total
        tl.store(out + one * DIM + dims, result.to(out.dtype.element_ty))

    return join
