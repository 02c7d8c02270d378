"""int8 and int4: how far packed weights are from the originals; torch and the kernels read the same numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autoglm.model.glm4v import Glm4vConfig
from autoglm.model.native.decoder import NO_IMAGES
from autoglm.model.native.library import level
from autoglm.model.quantized import SCHEMES, QuantizedLinear, parameter_count
from autoglm.model.quantized.codes import pack_int4, pack_int8, unpack_int4, unpack_int8
from autoglm.model.quantized.linear import put, quantize, quantized_names
from autoglm.model.quantized.tiles import in_tiles, out_of_tiles
from autoglm.model.quantized.unpacking import unpack_natively
from tests.model.native.models import GLM, LONG, glm_model, phone_model
from tests.model.native.test_decoder import COUNT, ERROR, LENGTH, Native, in_double, random_ids

WHOLE_NUMBERS = 3
"""The level that has instructions for them."""


def weights(rows: int = 70, cols: int = 96) -> Tensor:
    out = torch.randn(rows, cols, generator=torch.Generator().manual_seed(0))
    out[3] *= 100.0  # rows of another size do not disturb each other
    out[5] = 0.0
    return out


def test_int8_error_is_half_a_step_at_most() -> None:
    original = weights()
    packed, scales = pack_int8(original)
    assert ((unpack_int8(packed, scales) - original).abs() <= 0.5001 * scales[:, None]).all()


def test_int4_errs_less_than_even_steps() -> None:
    original = weights()
    back = unpack_int4(*pack_int4(original))
    groups = original.view(-1, 32)
    step = groups.gather(1, groups.abs().argmax(1, keepdim=True)) / -8
    even = ((groups / torch.where(step == 0, 1.0, step)).round().clamp(-8, 7) * step).view_as(original)
    for row, other, exact in zip(back, even, original, strict=True):
        assert (row - exact).norm() <= 0.12 * exact.norm()
        assert (row - exact).norm() <= 1.3 * (other - exact).norm()  # of one row; chance has its part
    assert (back - original)[6:].norm() < 0.97 * (even - original)[6:].norm()
    assert (back[5] == 0).all()


@pytest.mark.parametrize(("rows", "cols"), [(70, 96), (8, 256), (5, 416), (3, 128)])
@pytest.mark.parametrize("pack", [pack_int8, pack_int4])
def test_kernels_unpack_the_same(pack: object, rows: int, cols: int) -> None:
    """Whole tiles and blocks, and what is left of both."""
    packed, scales = pack(torch.randn(rows, cols, generator=torch.Generator().manual_seed(0)))  # type: ignore[operator]
    unpack = unpack_int8 if pack is pack_int8 else unpack_int4
    tiles = in_tiles(packed, scales)
    found = unpack_natively(*tiles, cols)
    assert found is not None
    assert torch.equal(found, unpack(packed, scales))
    assert all(torch.equal(a, b) for a, b in zip(out_of_tiles(*tiles), (packed, scales), strict=True))


@pytest.mark.parametrize("tiles", [True, False])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_layer_is_a_linear_layer(scheme: str, tiles: bool) -> None:
    exact = nn.Linear(96, 70)
    layer = QuantizedLinear.of(exact, scheme, tiles=tiles)
    x = torch.randn(5, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        error = (layer(x) - exact(x)).std() / exact(x).std()
    assert 0 < error < (0.01 if scheme == "int8" else 0.1)


@pytest.mark.parametrize("instructions", range(level() + 1))
@pytest.mark.parametrize(("config", "count"), [(GLM, 1), (GLM, COUNT), (LONG, 1), (LONG, 2)])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_kernels_compute_with_the_packed_weights(
    scheme: str, config: Glm4vConfig, count: int, instructions: int
) -> None:
    model, ids = glm_model(config), random_ids(count)
    quantize(model, scheme)
    positions = torch.arange(LENGTH).expand(3, -1)
    found = Native(model, count, 1, instructions, torch.float32).feed(ids, positions, [[NO_IMAGES] * LENGTH] * count)
    for name in quantized_names(model):
        layer = model.get_submodule(name)
        assert isinstance(layer, QuantizedLinear)
        plain = nn.Linear(layer.cols, layer.rows, bias=layer.bias is not None)
        plain.weight.data = layer.weight_as_float()
        if layer.bias is not None:
            plain.bias.data = layer.bias
        put(model, name, plain)  # type: ignore[arg-type]
    exact = model.double()
    for out, tokens in zip(found, ids, strict=True):
        expected = in_double(exact, tokens, positions)
        assert (out - expected).abs().max() < ERROR * expected.std()


@pytest.mark.parametrize("instructions", range(level() + 1))
@pytest.mark.parametrize("config", [GLM, LONG])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_whole_numbers_add_little_to_the_error_of_packing(scheme: str, config: Glm4vConfig, instructions: int) -> None:
    model, exact, count = glm_model(config), glm_model(config).double(), 9
    quantize(model, scheme)
    ids, positions = random_ids(count), torch.arange(LENGTH).expand(3, -1)
    images = [[NO_IMAGES] * LENGTH] * count
    rounded, plain = (
        Native(model, count, 1, instructions, torch.float32, integer_products=on).feed(ids, positions, images)
        for on in (True, False)
    )
    alone = Native(model, count, 1, instructions, torch.float32, integer_products=True).feed(ids[:1], positions, images)
    expected = torch.stack([in_double(exact, tokens, positions) for tokens in ids])
    packing, both = ((torch.stack(out) - expected).norm() for out in (plain, rounded))
    if instructions < WHOLE_NUMBERS:
        assert all(torch.equal(a, b) for a, b in zip(rounded, plain, strict=True))
        return
    assert not any(torch.equal(a, b) for a, b in zip(rounded, plain, strict=True))
    assert both < (1.4 if scheme == "int8" else 1.1) * packing
    assert torch.equal(alone[0], rounded[0])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_both_layouts_keep_their_count_and_lose_memory(scheme: str) -> None:
    for model in (glm_model(), phone_model()):
        before = parameter_count(model)
        names = quantized_names(model)
        floats = sum(model.get_submodule(n).get_parameter("weight").nbytes for n in names)
        quantize(model, scheme)
        assert parameter_count(model) == before
        packed = sum(t.nbytes for n in names for p, t in model.get_submodule(n).named_buffers() if p != "bias")
        assert packed < floats * (0.32 if scheme == "int8" else 0.3)
        assert not any(name.startswith(tuple(names)) for name, _ in model.named_parameters())
