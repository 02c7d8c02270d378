"""A linear layer of packed weights: the kernels read them as they are, torch gets them unpacked for a product."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoglm.model.autoglm_phone import AutoGLMPhoneModel
from autoglm.model.layers import FusedLinear
from autoglm.model.quantized import fp8
from autoglm.model.quantized.codes import GROUP, pack_int4, pack_int8, unpack_int4, unpack_int8
from autoglm.model.quantized.unpacking import unpack_natively
from autoglm.model.registry import Model

SCHEMES = ("int8", "int4")
"""Those that the CPU's kernels read."""
ALL_SCHEMES = (*SCHEMES, "fp8")
_NAMES = {torch.int8: "int8", torch.uint8: "int4", fp8.DTYPE: "fp8"}
_ROWS_AT_ONCE = 4096
_CPU = torch.device("cpu")


class QuantizedLinear(nn.Module):
    """Buffers: ``packed`` and ``scales`` (see :mod:`codes`); ``bias`` float32 or None. Costs one unpacking a call:
    for prefill, where it is small beside the product."""

    packed: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, packed: Tensor, scales: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("packed", packed)
        self.register_buffer("scales", scales)
        self.register_buffer("bias", bias)
        self.scheme = _NAMES[packed.dtype]
        self.rows = packed.shape[0]
        self.cols = packed.shape[1] * (2 if self.scheme == "int4" else 1)

    @classmethod
    def of(cls, module: nn.Module, scheme: str) -> QuantizedLinear:
        """From a linear layer. int4 needs a multiple of 32 columns; a layer without is packed as int8."""
        weight = module.get_parameter("weight").detach()
        bias = getattr(module, "bias", None)
        pack = pack_int4 if scheme == "int4" and weight.shape[1] % GROUP == 0 else pack_int8
        if scheme == "fp8":
            pack = fp8.pack_fp8
        return cls(*pack(weight), None if bias is None else bias.detach().float())

    def weight_as_float(self) -> Tensor:
        """float32 ``[rows, cols]``."""
        out = unpack_natively(self.packed, self.scales, self.cols)
        if out is not None:
            return out
        return _UNPACK[self.scheme](self.packed, self.scales)

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if self.scheme == "fp8":
            return fp8.linear(x, self.packed, self.scales, bias)
        return F.linear(x, self._weight_as(x.dtype), bias)

    def _weight_as(self, dtype: torch.dtype) -> Tensor:
        """Unpacked; on a GPU by parts, since what unpacking takes meanwhile is many times the result."""
        if self.packed.device.type == "cpu":
            return self.weight_as_float().to(dtype)
        parts = zip(torch.split(self.packed, _ROWS_AT_ONCE), torch.split(self.scales, _ROWS_AT_ONCE), strict=True)
        return torch.cat([_UNPACK[self.scheme](packed, scales).to(dtype) for packed, scales in parts])


_UNPACK = {"int8": unpack_int8, "int4": unpack_int4, "fp8": fp8.unpack_fp8}


def quantized_names(model: Model) -> list[str]:
    """The linear layers that decoding reads for every token, by module name."""
    held = model.kv_spec
    names = [
        f"model.language_model.layers.{index}.{part}"
        for index in range(held.first_layer, held.first_layer + held.num_layers)
        for part in ("self_attn.qkv", "self_attn.o_proj", "mlp.gate_up", "mlp.down_proj")
    ]
    if isinstance(model, AutoGLMPhoneModel):
        # Keys and values of an image are computed once per image, so their projections stay exact.
        names += [
            f"model.cross_attention.{index}.{part}"
            for index, layer in enumerate(model.config.fusion.layers)
            if held.first_layer <= layer < held.first_layer + held.num_layers
            for part in ("q_proj", "o_proj")
        ]
    return names if model.stage is not None and not model.stage.is_last else [*names, "lm_head"]


def head_scheme(scheme: str, device: torch.device) -> str:
    """The head decides between tokens: it is never packed below 8 bits. Which 8 a device multiplies differs."""
    return "int8" if scheme != "fp8" and device.type == "cpu" else "fp8"


def put(model: Model, name: str, layer: QuantizedLinear) -> None:
    """Put a packed layer in the place of ``name``; the unpacked weights are free then."""
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, layer)


def quantize(model: Model, scheme: str, device: torch.device = _CPU) -> None:
    """Pack a loaded model's layers one after the other, where they are, to decode on ``device``."""
    for name in quantized_names(model):
        module = model.get_submodule(name)
        assert isinstance(module, nn.Linear | FusedLinear)
        put(model, name, QuantizedLinear.of(module, head_scheme(scheme, device) if name == "lm_head" else scheme))


def parameter_count(model: Model) -> int:
    """Parameters, the packed ones included."""
    packed = sum(m.rows * m.cols for m in model.modules() if isinstance(m, QuantizedLinear))
    biases = sum(m.bias.numel() for m in model.modules() if isinstance(m, QuantizedLinear) and m.bias is not None)
    return sum(p.numel() for p in model.parameters()) + packed + biases
