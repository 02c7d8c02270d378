"""The mathematics of the Triton kernels against the codes' own, and their refusals where there is no device.

Where CUDA and Triton are there, the kernels themselves are compared, too.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.errors import InvalidInputError
from autoglm.parallel.codecs import codes, triton_kernels
from autoglm.parallel.codecs.codes import INT4, INT8, Format


@given(
    st.integers(1, 20),
    st.sampled_from([2, 16, 128, 1024]),
    st.integers(0, 2**32),
    st.integers(-44, 37),
    st.sampled_from([None, torch.inf, -torch.inf, torch.nan, 0.0]),
)
@settings(max_examples=150, deadline=None)
def test_groups_are_coded_as_the_codes_say(count: int, size: int, seed: int, power: int, odd: float | None) -> None:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(count, size, generator=random) * 10.0**power
    if odd is not None:
        x[seed % count, seed % size] = odd
    form = Format(8, size)
    expected = codes.encode(form, x.flatten())
    found, scales = triton_kernels.encode_groups(x)
    assert torch.equal(torch.cat([found.flatten().view(torch.uint8), scales.view(torch.uint8)]), expected)
    values = triton_kernels.decode_groups(found, scales).flatten()
    assert torch.equal(values.nan_to_num(7.5), codes.decode(form, expected, x.numel()).nan_to_num(7.5))


@pytest.mark.parametrize(("form", "count"), [(INT8, 127), (INT4, 128), (Format(8, 128, torch.ones(4)), 128)])
def test_what_kernels_cannot_do_is_refused(form: Format, count: int) -> None:
    with pytest.raises(InvalidInputError):
        triton_kernels.encode(form, torch.zeros(count))


def test_on_a_device_the_kernels_themselves() -> None:
    if not triton_kernels.available():
        with pytest.raises(InvalidInputError, match="CUDA"):
            triton_kernels.encode(INT8, torch.zeros(128))
        return
    x = torch.randn(4096, device="cuda")
    coded = triton_kernels.encode(INT8, x)
    assert torch.equal(coded.cpu(), codes.encode(INT8, x.cpu()))
    assert torch.equal(triton_kernels.decode(INT8, coded, 4096).cpu(), codes.decode(INT8, coded.cpu(), 4096))
