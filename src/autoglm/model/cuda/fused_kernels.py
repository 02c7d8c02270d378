"""What stands between a layer's products, each as one Triton kernel: at one row, queueing and waiting is all they cost.

Every kernel rounds where the operations it replaces round (products of norms and activations to the number format of
their input), so that results differ in the last bit at most. Triton is imported where it is used only; with
``TRITON_INTERPRET=1`` set before that, the very same kernels run on the CPU, slowly: that is how they are tested.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from autoglm.model.cuda.paged_kernel import interpreted

_WIDE = 8192
"""Values from which a program gets more warps."""
_COLUMNS = 1024


def add_norm(x: Tensor, y: Tensor, weight: Tensor, eps: float) -> Tensor:
    """``x + rms_norm(y) * weight``; all ``[rows, size]``, contiguous."""
    out = torch.empty_like(x)
    _add(x, y, (weight, eps), out, None, out)
    return out


def add_norm_norm(
    x: Tensor, y: Tensor, weight: Tensor, eps: float, next_weight: Tensor, next_eps: float
) -> tuple[Tensor, Tensor]:
    """:func:`add_norm`, and ``rms_norm(that) * next_weight``."""
    out, normed = torch.empty_like(x), torch.empty_like(x)
    _add(x, y, (weight, eps), out, (next_weight, next_eps), normed)
    return out, normed


def add_then_norm(x: Tensor, y: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """``x + y``, and ``rms_norm(that) * weight``."""
    out, normed = torch.empty_like(x), torch.empty_like(x)
    _add(x, y, None, out, (weight, eps), normed)
    return out, normed


Norm = tuple[Tensor, float]


def _add(x: Tensor, y: Tensor, before: Norm | None, out: Tensor, after: Norm | None, normed: Tensor) -> None:
    """``before``: weight and epsilon of the norm of ``y``; ``after``: of the sum's."""
    rows, size = x.shape
    if not rows:
        return
    weight, eps = before or after or (x, 0.0)
    next_weight, next_eps = after or (weight, eps)
    _add_norm_kernel()[(rows,)](
        x,
        y,
        weight,
        out,
        next_weight,
        normed,
        size,
        eps,
        next_eps,
        BLOCK=_power(size),
        BEFORE=before is not None,
        AFTER=after is not None,
        num_warps=8 if size >= 1024 else 4,
    )


def silu_mul(gate_up: Tensor) -> Tensor:
    """``silu(gate) * up`` of ``[rows, 2 * width]``, contiguous: ``[rows, width]``."""
    rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    out = torch.empty((rows, width), dtype=gate_up.dtype, device=gate_up.device)
    if rows:
        block = min(_COLUMNS, _power(width))
        _silu_mul_kernel()[(rows, -(-width // block))](gate_up, out, width, BLOCK=block)
    return out


def rotate_and_store(
    heads: Tensor, rotations: Tensor, keys: Tensor, values: Tensor, slots: Tensor, rotary_dim: int
) -> None:
    """Rotate the query heads in place, and write rotated keys, and values, to their slots.

    Args:
        heads: ``[rows, heads + 2 * kv_heads, head_dim]``, contiguous: queries, keys, values.
        rotations: complex64 ``[rows, 1, rotary_dim / 2]``. keys, values: ``[kv_heads, slots, head_dim]`` of a layer.
        slots: int64 ``[rows]``.
    """
    rows, count, dim = heads.shape
    if not rows:
        return
    kv_heads = keys.shape[0]
    queries = count - 2 * kv_heads
    _rotate_and_store_kernel()[(rows,)](
        heads,
        torch.view_as_real(rotations),
        keys,
        values,
        slots,
        keys.stride(0),
        QUERIES=queries,
        QUERY_BLOCK=_power(queries),
        KV_HEADS=kv_heads,
        KV_BLOCK=_power(kv_heads),
        DIM=dim,
        DIM_BLOCK=_power(dim),
        PAIRS=rotary_dim // 2,
        PAIR_BLOCK=_power(rotary_dim // 2),
    )


def rotate_halves(qkv: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Rotate queries and keys of ``[patches, 3, heads, head_dim]``, contiguous, in place; pair i: (i, i + head_dim/2).

    Args:
        cos, sin: float32 ``[patches, 1, head_dim]``.
    """
    patches, _, heads, dim = qkv.shape
    if not patches:
        return
    _rotate_halves_kernel()[(patches,)](
        qkv,
        cos,
        sin,
        ROWS=2 * heads,
        ROW_BLOCK=_power(2 * heads),
        ALL=3 * heads,
        HALF=dim // 2,
        HALF_BLOCK=_power(dim // 2),
    )


def round_rows(x: Tensor, largest: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """``[rows, cols]``, contiguous, to 8-bit floats and one float32 scale a row, as :func:`fp8.pack_fp8` does."""
    rows, cols = x.shape
    # The interpreter loses the carry where a code rounds up to the next power of two; torch rounds there.
    out = torch.empty((rows, cols), dtype=torch.float32 if interpreted() else dtype, device=x.device)
    scales = torch.empty(rows, dtype=torch.float32, device=x.device)
    block = _power(cols)
    _round_rows_kernel()[(rows,)](
        x, out, scales, cols, LARGEST=largest, BLOCK=block, num_warps=16 if block > _WIDE else 8
    )
    return out.to(dtype), scales


def _power(size: int) -> int:
    """The next power of two: sides of a tile are."""
    return 1 << max(0, size - 1).bit_length()


# fmt: off
# ruff: noqa: N803 - compile-time arguments are written in capitals, as Triton's own are


@cache
def _add_norm_kernel() -> Any:
    """Compiled on first use. Triton reads the function's source, so it is written out here."""
    import triton
    import triton.language as tl

    @triton.jit  # type: ignore[untyped-decorator, unused-ignore]
    def add_norm(x, y, weight, out, next_weight, normed, size, eps, next_eps,  # type: ignore[no-untyped-def]
                 BLOCK: tl.constexpr, BEFORE: tl.constexpr, AFTER: tl.constexpr):
        row, column = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
        real = column < size
        at = row * size + column
        added = tl.load(y + at, mask=real, other=0.0).to(tl.float32)
        if BEFORE:
            root = 1.0 / tl.sqrt(tl.sum(added * added, axis=0) / size + eps)
            scale = tl.load(weight + column, mask=real, other=0.0).to(tl.float32)
            added = (added * root * scale).to(out.dtype.element_ty).to(tl.float32)
        whole = tl.load(x + at, mask=real, other=0.0).to(tl.float32) + added
        rounded = whole.to(out.dtype.element_ty)
        tl.store(out + at, rounded, mask=real)
        if AFTER:
            again = rounded.to(tl.float32)
            root = 1.0 / tl.sqrt(tl.sum(again * again, axis=0) / size + next_eps)
            scale = tl.load(next_weight + column, mask=real, other=0.0).to(tl.float32)
            tl.store(normed + at, (again * root * scale).to(out.dtype.element_ty), mask=real)

    return add_norm


@cache
def _silu_mul_kernel() -> Any:
    """As :func:`_add_norm_kernel`."""
    import triton
    import triton.language as tl

    @triton.jit  # type: ignore[untyped-decorator, unused-ignore]
    def silu_mul(gate_up, out, width, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
        row = tl.program_id(0).to(tl.int64)
        column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        real = column < width
        gate = tl.load(gate_up + row * 2 * width + column, mask=real, other=0.0).to(tl.float32)
        up = tl.load(gate_up + row * 2 * width + width + column, mask=real, other=0.0).to(tl.float32)
        active = (gate / (1.0 + tl.exp(-gate))).to(out.dtype.element_ty).to(tl.float32)
        tl.store(out + row * width + column, (active * up).to(out.dtype.element_ty), mask=real)

    return silu_mul


@cache
def _rotate_and_store_kernel() -> Any:
    """As :func:`_add_norm_kernel`."""
    import triton
    import triton.language as tl

    @triton.jit  # type: ignore[untyped-decorator, unused-ignore]
    def rotate_and_store(heads, rotations, keys, values, slots, head_stride,  # type: ignore[no-untyped-def]
                         QUERIES: tl.constexpr, QUERY_BLOCK: tl.constexpr, KV_HEADS: tl.constexpr,
                         KV_BLOCK: tl.constexpr, DIM: tl.constexpr, DIM_BLOCK: tl.constexpr,
                         PAIRS: tl.constexpr, PAIR_BLOCK: tl.constexpr):
        row = tl.program_id(0).to(tl.int64)
        start = heads + row * (QUERIES + 2 * KV_HEADS) * DIM
        pair = tl.arange(0, PAIR_BLOCK)
        turned = pair < PAIRS
        real = tl.load(rotations + row * 2 * PAIRS + 2 * pair, mask=turned, other=0.0)[None, :]
        imaginary = tl.load(rotations + row * 2 * PAIRS + 2 * pair + 1, mask=turned, other=0.0)[None, :]

        head = tl.arange(0, QUERY_BLOCK)
        used = (head < QUERIES)[:, None] & turned[None, :]
        at = start + head[:, None] * DIM + 2 * pair[None, :]
        first = tl.load(at, mask=used, other=0.0).to(tl.float32)
        second = tl.load(at + 1, mask=used, other=0.0).to(tl.float32)
        tl.store(at, (first * real - second * imaginary).to(heads.dtype.element_ty), mask=used)
        tl.store(at + 1, (first * imaginary + second * real).to(heads.dtype.element_ty), mask=used)

        slot = tl.load(slots + row)
        head = tl.arange(0, KV_BLOCK)
        used = (head < KV_HEADS)[:, None] & turned[None, :]
        at = start + (QUERIES + head[:, None]) * DIM + 2 * pair[None, :]
        to = keys + head[:, None] * head_stride + slot * DIM + 2 * pair[None, :]
        first = tl.load(at, mask=used, other=0.0).to(tl.float32)
        second = tl.load(at + 1, mask=used, other=0.0).to(tl.float32)
        tl.store(to, (first * real - second * imaginary).to(keys.dtype.element_ty), mask=used)
        tl.store(to + 1, (first * imaginary + second * real).to(keys.dtype.element_ty), mask=used)

        column = tl.arange(0, DIM_BLOCK)
        rest = (head < KV_HEADS)[:, None] & ((column >= 2 * PAIRS) & (column < DIM))[None, :]
        whole = (head < KV_HEADS)[:, None] & (column < DIM)[None, :]
        at = start + (QUERIES + head[:, None]) * DIM + column[None, :]
        to = head[:, None] * head_stride + slot * DIM + column[None, :]
        tl.store(keys + to, tl.load(at, mask=rest, other=0.0), mask=rest)
        tl.store(values + to, tl.load(at + KV_HEADS * DIM, mask=whole, other=0.0), mask=whole)

    return rotate_and_store


@cache
def _rotate_halves_kernel() -> Any:
    """As :func:`_add_norm_kernel`."""
    import triton
    import triton.language as tl

    @triton.jit  # type: ignore[untyped-decorator, unused-ignore]
    def rotate_halves(qkv, cos, sin,  # type: ignore[no-untyped-def]
                      ROWS: tl.constexpr, ROW_BLOCK: tl.constexpr, ALL: tl.constexpr,
                      HALF: tl.constexpr, HALF_BLOCK: tl.constexpr):
        patch = tl.program_id(0).to(tl.int64)
        row, column = tl.arange(0, ROW_BLOCK), tl.arange(0, HALF_BLOCK)
        turned = column < HALF
        used = (row < ROWS)[:, None] & turned[None, :]
        angle = patch * 2 * HALF + column
        cos_first = tl.load(cos + angle, mask=turned, other=0.0)[None, :]
        cos_second = tl.load(cos + angle + HALF, mask=turned, other=0.0)[None, :]
        sin_first = tl.load(sin + angle, mask=turned, other=0.0)[None, :]
        sin_second = tl.load(sin + angle + HALF, mask=turned, other=0.0)[None, :]
        at = qkv + patch * ALL * 2 * HALF + row[:, None] * 2 * HALF + column[None, :]
        first = tl.load(at, mask=used, other=0.0).to(tl.float32)
        second = tl.load(at + HALF, mask=used, other=0.0).to(tl.float32)
        tl.store(at, (first * cos_first - second * sin_first).to(qkv.dtype.element_ty), mask=used)
        tl.store(at + HALF, (second * cos_second + first * sin_second).to(qkv.dtype.element_ty), mask=used)

    return rotate_halves


@cache
def _round_rows_kernel() -> Any:
    """As :func:`_add_norm_kernel`."""
    import triton
    import triton.language as tl

    @triton.jit  # type: ignore[untyped-decorator, unused-ignore]
    def round_rows(x, out, scales, size, LARGEST: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
        row, column = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
        real = column < size
        value = tl.load(x + row * size + column, mask=real, other=0.0).to(tl.float32)
        scale = tl.div_rn(tl.maximum(tl.max(tl.abs(value), axis=0), 1e-30), LARGEST)
        code = tl.div_rn(value, tl.broadcast_to(scale, (BLOCK,)))
        code = tl.minimum(tl.maximum(code, -LARGEST), LARGEST)
        tl.store(out + row * size + column, code.to(out.dtype.element_ty), mask=real)
        tl.store(scales + row, scale)

    return round_rows
