"""Fused kernels against the operations they replace: in Triton's interpreter where there is no CUDA."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autoglm.model import rope
from autoglm.model.cuda import fused_kernels
from autoglm.model.quantized import fp8

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
DTYPES = st.sampled_from(list(TOLERANCE))


def random(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype).to(DEVICE)


def close(found: Tensor, expected: Tensor) -> None:
    """Within one rounding of the number format."""
    tolerance = TOLERANCE[found.dtype]
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@given(DTYPES, st.integers(0, 4), st.sampled_from([8, 96, 1536]), st.integers(0, 999))
@settings(max_examples=12)
def test_norms(dtype: torch.dtype, rows: int, size: int, seed: int) -> None:
    x, y = random(seed, rows, size, dtype=dtype), random(seed + 1, rows, size, dtype=dtype) * 3
    first, second = (1 + random(seed + n, size, dtype=dtype) / 4 for n in (2, 3))
    expected = x + F.rms_norm(y, (size,), first, 1e-5)
    close(fused_kernels.add_norm(x, y, first, 1e-5), expected)
    out, normed = fused_kernels.add_norm_norm(x, y, first, 1e-5, second, 1e-6)
    close(out, expected)
    close(normed, F.rms_norm(out, (size,), second, 1e-6))
    plain, after = fused_kernels.add_then_norm(x, y, second, 1e-6)
    close(plain, x + y)
    close(after, F.rms_norm(plain, (size,), second, 1e-6))


@given(DTYPES, st.integers(0, 3), st.sampled_from([1, 40, 1100]), st.integers(0, 999))
@settings(max_examples=12)
def test_activation(dtype: torch.dtype, rows: int, width: int, seed: int) -> None:
    x = random(seed, rows, 2 * width, dtype=dtype) * 4
    gate, up = x.chunk(2, dim=-1)
    close(fused_kernels.silu_mul(x), F.silu(gate) * up)


@given(
    DTYPES,
    st.integers(0, 5),
    st.sampled_from([(3, 1), (4, 2), (6, 3)]),
    st.sampled_from([(16, 8), (32, 32), (24, 12)]),
    st.integers(0, 999),
)
@settings(max_examples=12)
def test_rotation_and_store(
    dtype: torch.dtype, rows: int, counts: tuple[int, int], dims: tuple[int, int], seed: int
) -> None:
    (queries, kv_heads), (dim, rotary) = counts, dims
    heads = random(seed, rows, queries + 2 * kv_heads, dim, dtype=dtype)
    text = rope.TextRope(rotary, 10000.0, [rotary // 2, 0, 0]).to(DEVICE)
    rotations = text.rotations(
        torch.randint(0, 500, (3, rows), generator=torch.Generator().manual_seed(seed)).to(DEVICE)
    )
    slots = torch.randperm(9, generator=torch.Generator().manual_seed(seed))[:rows].to(DEVICE)
    keys, values = (torch.zeros(kv_heads, 9, dim, dtype=dtype, device=DEVICE) for _ in range(2))
    expected_keys, expected_values = keys.clone(), values.clone()
    expected = heads.clone()
    text.apply(expected[:, : queries + kv_heads], rotations)
    q, k, v = expected.split((queries, kv_heads, kv_heads), dim=1)
    expected_keys.index_copy_(1, slots, k.transpose(0, 1))
    expected_values.index_copy_(1, slots, v.transpose(0, 1))
    fused_kernels.rotate_and_store(heads, rotations, keys, values, slots, rotary)
    close(heads[:, :queries], q)
    close(keys, expected_keys)
    close(values, expected_values)


@given(DTYPES, st.integers(0, 4), st.sampled_from([1, 3]), st.sampled_from([8, 24]), st.integers(0, 999))
@settings(max_examples=12)
def test_rotation_of_patches(dtype: torch.dtype, patches: int, heads: int, dim: int, seed: int) -> None:
    qkv = random(seed, patches, 3, heads, dim, dtype=dtype)
    angles = random(seed + 1, patches, 1, dim)
    q, k, v = qkv.clone().unbind(1)
    expected = [rope.rotate_halves(x, angles.cos(), angles.sin()) for x in (q, k)]
    fused_kernels.rotate_halves(qkv, angles.cos(), angles.sin())
    for found, right in zip(qkv.unbind(1), (*expected, v), strict=True):
        close(found, right)


@pytest.mark.parametrize("cols", [32, 100])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_rounding_to_8_bits(cols: int, dtype: torch.dtype) -> None:
    x = random(cols, 3, cols, dtype=dtype) * torch.tensor([[1e-3], [1.0], [300.0]], device=DEVICE).to(dtype)
    x[1] = 0
    codes, scales = fused_kernels.round_rows(x, fp8.LARGEST, fp8.DTYPE)
    expected, expected_scales = fp8.pack_fp8(x.cpu())  # torch on CUDA multiplies by the reciprocal
    assert torch.equal(scales.cpu(), expected_scales)
    assert torch.equal(codes.cpu().float(), expected.float())
