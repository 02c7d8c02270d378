"""fp8 weights: how far they are from the originals, what the CPU computes of what cards do, store and gate."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from autoglm.model.native.description import unfit
from autoglm.model.quantized import QuantizedLinear, load_quantized
from autoglm.model.quantized.fp8 import LARGEST, pack_fp8, unpack_fp8
from autoglm.model.quantized.linear import head_scheme, quantize
from autoglm.model.quantized.quality import compare
from tests.model.autoglm_phone.models import tiny_model
from tests.model.quantized.test_packing import weights

CUDA = torch.device("cuda")


def test_error_is_half_a_step_of_three_bits() -> None:
    original = weights()
    packed, scales = pack_fp8(original)
    back = unpack_fp8(packed, scales)
    # Half of the last of three bits behind the first; below 2^-6 of a scale, steps are even.
    bound = torch.maximum(original.abs() / 16, scales[:, None] * 2.0**-10)
    assert ((back - original).abs() <= bound * 1.0001).all()
    assert packed.float().abs().amax(dim=1)[6:].eq(LARGEST).all()
    assert (back[5] == 0).all()


@pytest.mark.parametrize("bias", [True, False])
def test_layer_multiplies_rounded_rows(bias: bool) -> None:
    exact = nn.Linear(96, 70, bias=bias)
    layer = QuantizedLinear.of(exact, "fp8")
    x = torch.randn(5, 96, generator=torch.Generator().manual_seed(1)) * torch.tensor(
        [[1e-4], [1.0], [10.0], [1e3], [0.0]]
    )
    with torch.no_grad():
        rounded = unpack_fp8(*pack_fp8(x))
        expected = nn.functional.linear(rounded, layer.weight_as_float(), exact.bias)
        size = expected.abs().amax(dim=1, keepdim=True).clamp_min(1e-6)
        torch.testing.assert_close(layer(x) / size, expected / size, rtol=0, atol=1e-5)
        ratio = (layer(x) - exact(x))[:4].norm(dim=1) / exact(x)[:4].norm(dim=1)
    assert (ratio < 0.08).all()


def test_int4_for_a_card_has_a_head_that_cards_multiply() -> None:
    model = tiny_model()
    quantize(model, "int4", CUDA)
    assert isinstance(model.lm_head, QuantizedLinear)
    assert model.lm_head.scheme == "fp8"
    assert head_scheme("int4", torch.device("cpu")) == "int8"


def test_kept_and_read_again_and_close_enough(tiny: Path, tmp_path: Path) -> None:
    first = load_quantized(tiny, "fp8", dtype=torch.float32, store=tmp_path)
    again = load_quantized(tiny, "fp8", dtype=torch.float32, store=tmp_path)
    assert [file.name.partition("-")[0] for file in tmp_path.glob("*.safetensors")] == ["fp8"]
    found = dict(again.named_buffers())
    for name, tensor in first.named_buffers():
        assert torch.equal(tensor.float(), found[name].float()), name
    assert unfit(again) == "the kernels do not read fp8 weights"
    exact = load_quantized(tiny, "int8", dtype=torch.float32)
    quality = compare(exact, again, [list(range(7, 40))])
    assert 0 < quality.mean_divergence < 0.1
