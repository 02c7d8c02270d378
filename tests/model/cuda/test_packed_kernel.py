"""Products with packed weights against unpacked ones in float64: in Triton's interpreter where there is no CUDA."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.model.cuda import packed_kernel
from autoglm.model.cuda.packed_kernel import Tile
from autoglm.model.quantized import fp8
from autoglm.model.quantized.codes import CODES, pack_int4, unpack_int4

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
SMALL = Tile(16, 64, 2, 4)


def check(scheme: str, dtype: torch.dtype, shape: tuple[int, int, int], splits: int | None, bias: bool) -> None:
    rows, outputs, inputs = shape
    generator = torch.Generator().manual_seed(rows * outputs + inputs)
    weight = torch.randn(outputs, inputs, generator=generator) / inputs**0.5
    x = torch.randn(rows, inputs, generator=generator).to(dtype)
    added = torch.randn(outputs, generator=generator) if bias else None
    packed, scales = pack_int4(weight) if scheme == "int4" else fp8.pack_fp8(weight)
    exact = (unpack_int4(packed, scales) if scheme == "int4" else fp8.unpack_fp8(packed, scales)).double()
    expected = x.double() @ exact.T + (0 if added is None else added.double())
    found = packed_kernel.linear(
        x.to(DEVICE),
        packed.to(DEVICE),
        scales.to(DEVICE),
        None if added is None else added.to(DEVICE, dtype),
        SMALL if splits is not None else None,
        splits,
    )
    assert found.dtype == dtype
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(found.cpu().double(), expected, rtol=tolerance, atol=tolerance)


@given(
    st.sampled_from(["fp8", "int4"]),
    st.sampled_from(list(TOLERANCE)),
    st.integers(1, 20),
    st.sampled_from([5, 16, 40]),
    st.sampled_from([32, 64, 224]),
    st.sampled_from([1, 2, 4]),
    st.booleans(),
)
@settings(max_examples=20)
def test_products(
    scheme: str, dtype: torch.dtype, rows: int, outputs: int, inputs: int, splits: int, bias: bool
) -> None:
    check(scheme, dtype, (rows, outputs, inputs), splits, bias)


@pytest.mark.parametrize("scheme", ["fp8", "int4"])
def test_the_tile_that_steps_use(scheme: str) -> None:
    check(scheme, torch.bfloat16, (1, 48, 1088), None, bias=True)


def test_the_polynomial_gives_the_codes() -> None:
    four, three, two, one, zero = packed_kernel._CODES
    for index, code in enumerate(CODES):
        x = index - 8
        assert abs(((((four * x + three) * x + two) * x + one) * x + zero) - code) < 0.45


@given(st.integers(1, 200_000), st.integers(32, 20_000), st.integers(1, 200))
@settings(max_examples=50)
def test_splits_leave_each_program_some_tiles(outputs: int, inputs: int, units: int) -> None:
    tile = packed_kernel.tile_for(1)
    splits = packed_kernel.splits_for(outputs, inputs, tile, units)
    assert splits & (splits - 1) == 0
    assert splits == 1 or splits * 4 * tile.inputs <= inputs
