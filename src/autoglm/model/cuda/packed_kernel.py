"""Products of few rows with packed weights as a Triton kernel: a decode step reads its weights as they are packed.

Weights become numbers in registers, so a product costs what reading 8 or 4 bits a weight costs; activations are not
rounded. A layer with few outputs is cut along its inputs too, so that it fills the device; a second kernel adds the
parts up. Triton is imported where it is used only, and runs in its interpreter as :mod:`.paged_kernel` does.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from autoglm.model.cuda.paged_kernel import available, interpreted, processors
from autoglm.model.quantized.codes import GROUP, pack_int4, unpack_int4
from autoglm.model.quantized.fp8 import pack_fp8, unpack_fp8

log = logging.getLogger(__name__)
MOST_ROWS = 64
_LEAST_ROWS = 16
"""Rows that a tensor core multiplies; fewer are padded."""
_BLOCK = 512
_TOLERANCE = 2e-2
_PROGRAMS = 4
"""Wanted on each multiprocessor: reads of one go on while another waits."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Outputs and inputs that a program multiplies at once, and how many of its loads are under way."""

    outputs: int
    inputs: int
    stages: int
    warps: int


_FEW, _MORE = Tile(32, 256, 4, 4), Tile(64, 128, 4, 4)
"""The quickest of nine on an H100, for up to 16 rows and for more."""
_CODES = (1.58604282e-03, 8.18398096e-02, -1.68120538e-02, 1.14398097e01, 1.43298971e00)
"""A polynomial of ``index - 8``: rounded, it gives the 4-bit codes. Looking them up took ten times as long."""


def tile_for(rows: int) -> Tile:
    """Of a product of so many rows."""
    return _FEW if rows <= _LEAST_ROWS else _MORE


def splits_for(outputs: int, inputs: int, tile: Tile, processors: int) -> int:
    """Parts along the inputs, a power of two: enough programs for the device, each with some tiles of its own."""
    programs = -(-outputs // tile.outputs)
    wanted = min(-(-_PROGRAMS * processors // programs), inputs // (4 * tile.inputs), 16)
    return 1 << max(0, wanted.bit_length() - 1)


def linear(
    x: Tensor, packed: Tensor, scales: Tensor, bias: Tensor | None, tile: Tile | None = None, splits: int | None = None
) -> Tensor:
    """``x @ weights.T + bias``, ``[rows, outputs]`` in the dtype of ``x``.

    Args:
        x: ``[rows, inputs]``, at most :data:`MOST_ROWS`.
        packed, scales: as :mod:`autoglm.model.quantized` packs them: e4m3 with a scale a row, or uint8, two weights
            each, with a scale for each 32 inputs.
    """
    int4 = packed.dtype == torch.uint8
    rows, (outputs, width) = len(x), packed.shape
    inputs = width * 2 if int4 else width
    tile = tile or tile_for(rows)
    if splits is None:
        splits = splits_for(outputs, inputs, tile, processors(x.device))
    x = x.contiguous()
    out = torch.empty((rows, outputs), dtype=x.dtype, device=x.device)
    parts = torch.empty((splits, rows, outputs), dtype=torch.float32, device=x.device) if splits > 1 else out
    _multiply_kernel()[(-(-outputs // tile.outputs), splits)](
        x,
        packed,
        scales,
        bias if bias is not None else x,
        parts,
        rows,
        outputs,
        inputs,
        ROWS=max(_LEAST_ROWS, 1 << (rows - 1).bit_length()),
        OUTPUTS=tile.outputs,
        INPUTS=tile.inputs,
        SPLITS=splits,
        INT4=int4,
        GROUP=GROUP,
        BIAS=bias is not None and splits == 1,
        # The interpreter multiplies bfloat16 as the integers it is stored in; widened, the products are the same.
        WIDEN=interpreted() and x.dtype == torch.bfloat16,
        **dict(zip(("FOUR", "THREE", "TWO", "ONE", "ZERO"), _CODES, strict=True)),
        num_stages=tile.stages,
        num_warps=tile.warps,
    )
    if splits > 1:
        count = rows * outputs
        _add_up_kernel()[(-(-count // _BLOCK),)](
            parts,
            bias if bias is not None else x,
            out,
            count,
            outputs,
            SPLITS=splits,
            BLOCK=_BLOCK,
            BIAS=bias is not None,
        )
    return out


@cache
@torch.inference_mode()
def works(device: torch.device) -> bool:
    """Whether the kernels give right products on a device, by trial; the log says why not."""
    if device.type != "cuda" or not available(device):
        return False
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(96, 1024, generator=generator)
    x = torch.randn(3, 1024, generator=generator).to(device, torch.bfloat16)
    try:
        for pack, unpack in ((pack_int4, unpack_int4), (pack_fp8, unpack_fp8)):
            packed, scales = pack(weight)
            right = x.float() @ unpack(packed, scales).to(device).T
            found = linear(x, packed.to(device), scales.to(device), None, splits=2).float()
            difference = float((found - right).abs().max() / right.abs().max())
            if not difference <= _TOLERANCE:
                log.info("packed weights are unpacked for products: a kernel's results differ by %f", difference)
                return False
    except Exception as error:  # a compiler's errors are of its own kinds, and torch can go on without it
        log.info("packed weights are unpacked for products: %s: %s", type(error).__name__, error)
        return False
    return True


# fmt: off
# ruff: noqa: N803 - compile-time arguments are written in capitals, as Triton's own are


@cache
def _multiply_kernel() -> Any:
    """Compiled on first use. Triton reads the function's source, so it is written out here."""
    import triton
    import triton.language as tl

    @triton.jit  # type: ignore[untyped-decorator, unused-ignore]
    def multiply(x, packed, scales, bias, out, rows, outputs, inputs,  # type: ignore[no-untyped-def]
                 ROWS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr, SPLITS: tl.constexpr,
                 INT4: tl.constexpr, GROUP: tl.constexpr, BIAS: tl.constexpr, WIDEN: tl.constexpr,
                 FOUR: tl.constexpr, THREE: tl.constexpr, TWO: tl.constexpr, ONE: tl.constexpr, ZERO: tl.constexpr):
        split = tl.program_id(1)
        row = tl.arange(0, ROWS)
        output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
        used, held = (row < rows)[:, None], (output < outputs)[:, None]
        wide = output.to(tl.int64)[:, None]
        share = (tl.cdiv(inputs, INPUTS) + SPLITS - 1) // SPLITS * INPUTS
        start = split * share
        end = tl.minimum(start + share, inputs)
        total = tl.zeros([ROWS, OUTPUTS], tl.float32)
        for first in range(start, end, INPUTS):
            if INT4:
                byte = first // 2 + tl.arange(0, INPUTS // 2)
                there = (byte * 2 < end)[None, :]
                pair = tl.load(packed + wide * (inputs // 2) + byte[None, :], mask=held & there, other=0).to(tl.int32)
                group = first // GROUP + tl.arange(0, INPUTS // GROUP)
                real = held & (group * GROUP < end)[None, :]
                step = tl.load(scales + wide * (inputs // GROUP) + group[None, :], mask=real, other=0.0).to(tl.float32)
                column = byte // (GROUP // 2) * GROUP + byte % (GROUP // 2)
                at = x + row[:, None] * inputs + column[None, :]
                for half in tl.static_range(2):
                    # A small whole number in the low bits of 2^23 is a float32 without a conversion; 1.5 * 2^23 rounds.
                    c = (((pair >> (4 * half)) & 15) | 0x4B000000).to(tl.float32, bitcast=True) - 8388616.0
                    c = ((((FOUR * c + THREE) * c + TWO) * c + ONE) * c + ZERO + 12582912.0) - 12582912.0
                    c = tl.reshape(c, [OUTPUTS, INPUTS // GROUP, GROUP // 2]) * step[:, :, None]
                    c = tl.reshape(c, [OUTPUTS, INPUTS // 2])
                    value = tl.load(at + half * (GROUP // 2), mask=used & there, other=0.0)
                    if WIDEN:
                        value = value.to(tl.float32)
                    total += tl.dot(value, tl.trans(c.to(value.dtype)), input_precision="ieee")
            else:
                column = first + tl.arange(0, INPUTS)
                there = (column < end)[None, :]
                weight = tl.load(packed + wide * inputs + column[None, :], mask=held & there, other=0.0)
                value = tl.load(x + row[:, None] * inputs + column[None, :], mask=used & there, other=0.0)
                if WIDEN:
                    value = value.to(tl.float32)
                total += tl.dot(value, tl.trans(weight.to(value.dtype)), input_precision="ieee")
        if not INT4:
            total *= tl.load(scales + output, mask=output < outputs, other=0.0)[None, :]
        if BIAS:
            total += tl.load(bias + output, mask=output < outputs, other=0.0).to(tl.float32)[None, :]
        to = (split * rows + row[:, None]).to(tl.int64) * outputs + output[None, :]
        tl.store(out + to, total.to(out.dtype.element_ty), mask=used & (output < outputs)[None, :])

    return multiply


@cache
def _add_up_kernel() -> Any:
    """As :func:`_multiply_kernel`."""
    import triton
    import triton.language as tl

    @triton.jit  # type: ignore[untyped-decorator, unused-ignore]
    def add_up(parts, bias, out, count, outputs,  # type: ignore[no-untyped-def]
               SPLITS: tl.constexpr, BLOCK: tl.constexpr, BIAS: tl.constexpr):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        real = at < count
        total = tl.zeros([BLOCK], tl.float32)
        for split in tl.static_range(SPLITS):
            total += tl.load(parts + split * count + at, mask=real, other=0.0)
        if BIAS:
            total += tl.load(bias + at % outputs, mask=real, other=0.0).to(tl.float32)
        tl.store(out + at, total.to(out.dtype.element_ty), mask=real)

    return add_up
