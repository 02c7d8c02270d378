"""Compiles all kernels for an H100, without one: the interpreter accepts what the compiler refuses.

Run without ``TRITON_INTERPRET``; prints a line a kernel, ends with status 1 if one does not compile.
"""

from __future__ import annotations

import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from autoglm.model.cuda import fused_kernels, packed_kernel, paged_kernel
from autoglm.model.quantized.codes import GROUP
from autoglm.parallel.codecs import triton_kernels

TARGET = GPUTarget("cuda", 90, 32)
_HEADS = {"QUERIES": 32, "QUERY_BLOCK": 32, "KV_HEADS": 2, "KV_BLOCK": 2}
_DIMS = {"DIM": 128, "DIM_BLOCK": 128, "PAIRS": 32, "PAIR_BLOCK": 32}


def compiled(kernel: Any, types: str, **constants: Any) -> None:
    """``types``: of the arguments before the compile-time ones, in order; ``bf16*`` is a pointer."""
    given = [f"*{t[:-1]}" if t.endswith("*") else t for t in types.split()]
    signature = dict(zip(kernel.arg_names, given + ["constexpr"] * len(constants), strict=True))
    triton.compile(ASTSource(fn=kernel, signature=signature, constexprs=constants), target=TARGET)
    print(kernel.__name__, {name: value for name, value in constants.items() if len(name) > 4}, flush=True)


def paged(kind: str, splits: int) -> None:
    shapes = {"GROUP": 16, "PADDED": 16, "DIM": 128, "BLOCK": 16, "TILE": paged_kernel.TILE, "SPLITS": splits}
    out = "fp32" if splits > 1 else kind
    types = f"{kind}* {kind}* {kind}* i32* i64* {out}* {out}* i32 i32 i32 fp32"
    compiled(paged_kernel._attend_kernel(), types, **shapes, WIDEN=False)
    if splits > 1:
        compiled(paged_kernel._join_kernel(), f"fp32* fp32* {kind}*", DIM=128, SPLITS=splits)


def fused(kind: str) -> None:
    row = f"{kind}*"
    for before, after in ((True, True), (True, False), (False, True)):
        types = f"{' '.join([row] * 6)} i32 fp32 fp32"
        compiled(fused_kernels._add_norm_kernel(), types, BLOCK=4096, BEFORE=before, AFTER=after)
    compiled(fused_kernels._silu_mul_kernel(), f"{row} {row} i32", BLOCK=1024)
    compiled(fused_kernels._rotate_and_store_kernel(), f"{row} fp32* {row} {row} i64* i32", **_HEADS, **_DIMS)
    halves = {"ROWS": 24, "ROW_BLOCK": 32, "ALL": 36, "HALF": 64, "HALF_BLOCK": 64}
    compiled(fused_kernels._rotate_halves_kernel(), f"{row} fp32* fp32*", **halves)
    compiled(fused_kernels._round_rows_kernel(), f"{row} fp8e4nv* fp32* i32", LARGEST=448.0, BLOCK=4096)


def packed(rows: int, splits: int, *, int4: bool) -> None:
    tile = packed_kernel.tile_for(rows)
    codes = dict(zip(("FOUR", "THREE", "TWO", "ONE", "ZERO"), packed_kernel._CODES, strict=True))
    shapes = {"ROWS": max(16, rows), "OUTPUTS": tile.outputs, "INPUTS": tile.inputs, "SPLITS": splits}
    out = "fp32" if splits > 1 else "bf16"
    weights = "u8* bf16*" if int4 else "fp8e4nv* fp32*"
    types = f"bf16* {weights} bf16* {out}* i32 i32 i32"
    options = {"INT4": int4, "GROUP": GROUP, "BIAS": splits == 1, "WIDEN": False}
    compiled(packed_kernel._multiply_kernel(), types, **shapes, **options, **codes)
    if splits > 1:
        compiled(packed_kernel._add_up_kernel(), "fp32* bf16* bf16* i32 i32", SPLITS=splits, BLOCK=512, BIAS=True)


def main() -> int:
    """Compile them."""
    paged("bf16", 1)
    paged("bf16", 8)
    fused("bf16")
    for int4 in (False, True):
        packed(1, 4, int4=int4)
        packed(32, 1, int4=int4)
    kernels = triton_kernels._kernels()
    compiled(kernels["encode"], "fp32* i8* i16* i32", GROUP=128, GROUPS=32)
    compiled(kernels["decode"], "i8* i16* fp32* i32", GROUP=128, GROUPS=32, ADD=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
