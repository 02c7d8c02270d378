"""A linear layer of packed weights: the kernels read them as they are, torch gets them unpacked for a product."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoglm.errors import InvalidInputError
from autoglm.model.autoglm_phone import AutoGLMPhoneModel
from autoglm.model.cuda import packed_kernel
from autoglm.model.layers import FusedLinear
from autoglm.model.quantized import fp8
from autoglm.model.quantized.codes import GROUP, pack_int4, pack_int8, unpack_int4, unpack_int8
from autoglm.model.quantized.unpacking import unpack_natively
from autoglm.model.registry import Model
from autoglm.model.sharding import sharding_of
from autoglm.parallel.collectives import ALONE, Communicator

SCHEMES = ("int8", "int4")
"""Those that the CPU's kernels read."""
ALL_SCHEMES = (*SCHEMES, "fp8")
_BY_COLUMNS = ("o_proj", "down_proj")
"""Layers whose columns are shared out over ranks; of the others, rows."""
_NAMES = {torch.int8: "int8", torch.uint8: "int4", fp8.DTYPE: "fp8"}
_ROWS_AT_ONCE = 4096
_CPU = torch.device("cpu")


class QuantizedLinear(nn.Module):
    """Buffers: ``packed`` and ``scales`` (see :mod:`codes`); ``bias`` float32 or None. Costs one unpacking a call:
    for prefill, where it is small beside the product.

    Attributes:
        by_kernel: on CUDA, few rows are multiplied with the weights as they are packed.
    """

    by_kernel = True
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
    def of(cls, module: nn.Module, scheme: str, columns: Communicator = ALONE) -> QuantizedLinear:
        """From a linear layer. int4 needs a multiple of 32 columns; a layer without is packed as int8.

        ``columns``: the ranks that have the layer's columns together. They agree on the scale of a row, so that what
        they hold together are the codes that one rank would have.
        """
        weight = module.get_parameter("weight").detach()
        bias = getattr(module, "bias", None)
        if scheme == "int4" and weight.shape[1] % GROUP == 0:
            packed = pack_int4(weight)
        else:
            largest = columns.all_gather(weight.float().abs().amax(dim=1)[None], 0).amax(dim=0)
            packed = fp8.pack_fp8(weight, largest) if scheme == "fp8" else pack_int8(weight, largest)
        return cls(*packed, None if bias is None else bias.detach().float())

    def weight_as_float(self) -> Tensor:
        """float32 ``[rows, cols]``."""
        out = unpack_natively(self.packed, self.scales, self.cols)
        if out is not None:
            return out
        return _UNPACK[self.scheme](self.packed, self.scales)

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        few = self.by_kernel and 0 < len(x) <= packed_kernel.MOST_ROWS
        if few and self.scheme != "int8" and packed_kernel.works(x.device):
            return packed_kernel.linear(x, self.packed, self.scales, bias)
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


def scheme_of(name: str, scheme: str, device: torch.device = _CPU) -> str:
    """How the layer ``name`` is packed."""
    return head_scheme(scheme, device) if name == "lm_head" else scheme


def head_scheme(scheme: str, device: torch.device) -> str:
    """The head decides between tokens: it is never packed below 8 bits. Which 8 a device multiplies differs."""
    return "int8" if scheme != "fp8" and device.type == "cpu" else "fp8"


def put(model: Model, name: str, layer: QuantizedLinear) -> None:
    """Put a packed layer in the place of ``name``; the unpacked weights are free then."""
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, layer)


def quantize(model: Model, scheme: str, device: torch.device = _CPU) -> None:
    """Pack a loaded model's layers one after the other, where they are, to decode on ``device``; the ranks that share
    the model do so together."""
    for name in quantized_names(model):
        module = model.get_submodule(name)
        assert isinstance(module, nn.Linear | FusedLinear)
        columns = model.comm if name.endswith(_BY_COLUMNS) else ALONE
        put(model, name, QuantizedLinear.of(module, scheme_of(name, scheme, device), columns))


def check_packing(model: Model, scheme: str, size: int) -> None:
    """Raise :class:`InvalidInputError` if ``size`` ranks would have to pack part of a group of int4 columns."""
    if scheme != "int4" or size == 1:
        return
    for rank in range(size):
        sharding = sharding_of(model, rank, size)
        for name in quantized_names(model):
            weight = model.get_submodule(name).get_parameter("weight")
            cut = sharding.ranges(f"{name}.weight", tuple(weight.shape)) if name.endswith(_BY_COLUMNS) else None
            for start, end in cut[1] if cut is not None else ():
                if start % GROUP or end % GROUP:
                    raise InvalidInputError(
                        f"quantization int4 packs {GROUP} columns together, and of {name} rank {rank} of {size} has "
                        f"columns {start} to {end - 1}; use int8, or another tensor_parallel_size",
                        field="quantization",
                        limit=GROUP,
                        value=scheme,
                    )


def multiply_by_kernel(model: Model, on: bool) -> None:
    """Set :attr:`QuantizedLinear.by_kernel` of all layers."""
    for module in model.modules():
        if isinstance(module, QuantizedLinear):
            module.by_kernel = on


def parameter_count(model: Model) -> int:
    """Parameters, the packed ones included."""
    packed = sum(m.rows * m.cols for m in model.modules() if isinstance(m, QuantizedLinear))
    biases = sum(m.bias.numel() for m in model.modules() if isinstance(m, QuantizedLinear) and m.bias is not None)
    return sum(p.numel() for p in model.parameters()) + packed + biases
