"""Codes for the wire: the kernels against the mathematics bit by bit, and the error against its bound."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autoglm.errors import InvalidInputError
from autoglm.parallel.codecs import codes
from autoglm.parallel.codecs.codes import Format
from autoglm.parallel.codecs.kernels import Kernels

FORMATS = st.builds(
    Format,
    st.sampled_from([8, 4]),
    st.sampled_from([2, 16, 32, 128, 1024]),
    st.none() | st.integers(1, 200).map(lambda n: torch.rand(n, generator=torch.Generator().manual_seed(n)) + 0.1),
)


@st.composite
def messages(draw: st.DrawFn) -> Tensor:
    """Values of wide range, zeros and subnormal numbers among them."""
    count = draw(st.integers(1, 700))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    values = torch.randn(count, generator=random) * 10.0 ** draw(st.integers(-40, 30))
    values[torch.rand(count, generator=random) < draw(st.floats(0, 1))] = 0
    if draw(st.booleans()):
        values[torch.randint(count, (), generator=random)] *= 1e4
    return values


def coded(kernels: Kernels, values: Tensor, start: int) -> Tensor:
    out = torch.full((kernels.form.nbytes(len(values)),), 0xAA, dtype=torch.uint8)
    kernels.encode(values, start, out)
    return out


@given(FORMATS, messages(), st.integers(0, 10_000))
@settings(max_examples=150, deadline=None)
def test_kernels_equal_the_mathematics(form: Format, values: Tensor, start: int) -> None:
    kernels = Kernels(form, native=True)
    found, expected = coded(kernels, values, start), codes.encode(form, values, start)
    assert torch.equal(found, expected)
    decoded = torch.empty_like(values)
    kernels.decode(found, start, decoded)
    assert torch.equal(decoded, codes.decode(form, expected, len(values), start))


@given(FORMATS, messages(), st.integers(0, 10_000))
@settings(max_examples=150, deadline=None)
def test_error_is_at_most_half_a_step(form: Format, values: Tensor, start: int) -> None:
    found = codes.decode(form, coded(Kernels(form), values, start), len(values), start)
    channel = torch.ones(len(values))
    if form.channel is not None:
        channel = form.channel[(torch.arange(len(values)) + start) % len(form.channel)]
    for first in range(0, len(values), form.group):
        group = slice(first, first + form.group)
        step = (values[group].double() / channel[group]).abs().max() / form.top
        # A scale is rounded up by at most 2^-7; below the smallest normal number a group becomes zero.
        bound = torch.clamp(0.5 * step * (1 + 2**-6), min=form.top * 2.0**-125) * channel[group] * (1 + 1e-5)
        assert ((found[group].double() - values[group]).abs() <= bound).all()


@given(FORMATS, st.integers(1, 4), st.integers(1, 500), st.integers(0, 999))
@settings(max_examples=80, deadline=None)
def test_fused_sum_equals_the_mathematics(form: Format, peers: int, count: int, start: int) -> None:
    random = torch.Generator().manual_seed(count)
    own = torch.randn(count, generator=random)
    sent = [codes.encode(form, torch.randn(count, generator=random), start) for _ in range(peers)]
    expected, values = codes.reduce(form, own, sent, start)
    out = torch.empty_like(expected)
    Kernels(form, native=True).reduce(own, sent, start, out)
    assert torch.equal(out, expected)
    assert torch.equal(own, values)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_value_that_is_not_finite_is_never_sent_as_a_number(bad: float, native: bool) -> None:
    values = torch.ones(300)
    values[200] = bad
    kernels = Kernels(Format(8, 128), native=native)
    out = torch.empty(300)
    kernels.decode(coded(kernels, values, 0), 0, out)
    assert out[:128].allclose(torch.ones(128), rtol=0.01)
    assert out[128:256].isnan().all()
    assert out[256:].allclose(torch.ones(44), rtol=0.01)


def test_a_channel_scale_shields_the_neighbours_of_an_outlier() -> None:
    random = torch.Generator().manual_seed(1)
    values = torch.randn(64, 256, generator=random)
    values[:, 7] *= 40
    scale = torch.ones(256)
    scale[7] = 40
    errors = []
    for channel in (None, scale):
        form = Format(8, 128, channel)
        found = codes.decode(form, codes.encode(form, values.flatten()), values.numel()).view_as(values)
        ordinary = torch.arange(256) != 7
        errors.append((found - values)[:, ordinary].norm() / values[:, ordinary].norm())
    assert errors[1] < 0.01
    assert errors[0] > 0.05


def test_sizes() -> None:
    assert codes.INT8.ratio() == pytest.approx(3.94, abs=0.01)
    assert codes.INT4.ratio() == pytest.approx(7.11, abs=0.01)
    assert codes.INT8.nbytes(129) == 129 + 4
    assert codes.INT4.nbytes(33) == 17 + 4


@pytest.mark.parametrize(
    ("bits", "group", "channel"), [(5, 128, None), (8, 127, None), (8, 2048, None), (8, 128, torch.zeros(4))]
)
def test_bad_formats_are_refused(bits: int, group: int, channel: Tensor | None) -> None:
    with pytest.raises(InvalidInputError):
        Format(bits, group, channel)
