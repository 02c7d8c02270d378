"""A model's weights as the kernels read them: pointers to the very memory the torch modules hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from autoglm.model.autoglm_phone import AutoGLMPhoneModel
from autoglm.model.autoglm_phone.fusion import GatedCrossAttention
from autoglm.model.context import KVStore
from autoglm.model.decoder import DecoderLayer
from autoglm.model.native.structs import BF16, F32, INT4, INT8, LayerC, MatrixC, ModelC
from autoglm.model.quantized.linear import QuantizedLinear
from autoglm.model.registry import Model
from autoglm.model.stage import held_modules
from autoglm.parallel.tensor import share

LANES = 16
"""Widths must be multiples of this."""
_TYPES = {torch.float32: F32, torch.bfloat16: BF16}


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of the buffers: rows of a step, tokens a row may attend to, tokens of a KV block, threads."""

    max_rows: int
    max_tokens: int
    block_size: int
    threads: int


def unfit(model: Model) -> str | None:
    """Why the kernels cannot run this model; ``None`` if they can."""
    text = model.text_config
    widths = {
        "hidden_size": text.hidden_size,
        "head_dim": text.head_dim,
        "intermediate_size": _rows(_first_layer(model).mlp.gate_up) // 2,  # this rank's
    }
    if isinstance(model, AutoGLMPhoneModel):
        widths["fusion head_dim"] = model.config.fusion.head_dim
    for name, width in widths.items():
        if width % LANES:
            return f"{name} {width} is not a multiple of {LANES}"
    if model.device.type != "cpu":
        return f"it is on {model.device}"
    if model.dtype not in _TYPES:
        return f"its dtype is {model.dtype}"
    packed = [module for module in model.modules() if isinstance(module, QuantizedLinear)]
    if any(module.scheme == "fp8" for module in packed):
        return "the kernels do not read fp8 weights"
    if not all(module.tiles for module in packed):
        return "its weights were packed for another device"
    return None


def _first_layer(model: Model) -> DecoderLayer:
    return next(layer for layer in model.decoder.layers if isinstance(layer, DecoderLayer))


def _rows(module: nn.Module) -> int:
    return module.rows if isinstance(module, QuantizedLinear) else module.get_parameter("weight").shape[0]


@dataclass(slots=True)
class Description:
    """``model`` for :func:`autoglm_create`; ``alive`` holds what it points to."""

    model: ModelC
    alive: list[Any] = field(default_factory=list)

    def pointer(self, tensor: Tensor) -> int:
        """Address of a contiguous tensor, which is kept."""
        if not tensor.is_contiguous():
            raise ValueError("the kernels read contiguous tensors")
        self.alive.append(tensor)
        return tensor.data_ptr()

    def vector(self, tensor: Tensor) -> int:
        """Address of small weights as float32."""
        return self.pointer(tensor.detach().float().contiguous())

    def matrix(self, module: nn.Module) -> MatrixC:
        """A linear layer, packed or not, or an embedding."""
        if isinstance(module, QuantizedLinear):
            return self._packed(module)
        weight = module.get_parameter("weight").detach()
        bias = getattr(module, "bias", None)
        rows, cols = weight.shape
        out = MatrixC(type=_TYPES[weight.dtype], rows=rows, cols=cols, data=self.pointer(weight))
        if bias is not None:
            out.bias = self.vector(bias)
        return out

    def _packed(self, module: QuantizedLinear) -> MatrixC:
        out = MatrixC(
            type=INT8 if module.scheme == "int8" else INT4,
            rows=module.rows,
            cols=module.cols,
            data=self.pointer(module.packed),
            scales=self.pointer(module.scales),
        )
        if module.bias is not None:
            out.bias = self.vector(module.bias)
        return out


def describe(model: Model, kv: KVStore, sizes: Sizes, *, integer_products: bool = True) -> Description:
    """All of the model, or of its stage. The tensors must stay where they are for as long as it is used."""
    text, decoder, first = model.text_config, model.decoder, _first_layer(model)
    out = Description(ModelC())
    axis = decoder.rope.axis.to(torch.int32)
    begin, end = (0, text.num_layers) if model.stage is None else (model.stage.first, model.stage.last)
    layers = (LayerC * (end - begin))()
    modules: dict[int, tuple[int, GatedCrossAttention]] = {}
    fusion: dict[str, Any] = {"first_fusion": end - begin}
    if isinstance(model, AutoGLMPhoneModel) and (held := held_modules(model, begin, end)):
        modules = held
        fusion = _fusion(model, out, begin, end)
    for index in range(begin, end):
        layer = decoder.layers[index]
        assert isinstance(layer, DecoderLayer)
        layers[index - begin] = _layer(out, layer, modules.get(index))
    out.alive.append(layers)
    out.model = ModelC(
        hidden=text.hidden_size,
        layers=end - begin,
        heads=first.self_attn.heads,
        kv_heads=first.self_attn.kv_heads,
        head_dim=text.head_dim,
        rotary_pairs=text.rotary_dim // 2,
        intermediate=_rows(first.mlp.gate_up) // 2,
        vocab=text.vocab_size,
        embed_first=share(text.vocab_size, model.comm.rank, model.comm.size)[0],
        eps=text.rms_norm_eps,
        kv_type=_TYPES[kv.spec.dtype],
        block_size=sizes.block_size,
        max_rows=sizes.max_rows,
        max_tokens=sizes.max_tokens,
        threads=sizes.threads,
        integer_products=integer_products,
        embed=out.matrix(decoder.embed_tokens) if begin == 0 else MatrixC(),
        head=out.matrix(model.lm_head) if end == text.num_layers else MatrixC(),
        final_norm=out.vector(decoder.norm.weight) if end == text.num_layers else None,
        inv_freq=out.vector(decoder.rope.inv_freq),
        rotary_axis=out.pointer(axis),
        keys=out.pointer(kv.keys),
        values=out.pointer(kv.values),
        layer_stride=kv.keys.stride(0),
        head_stride=kv.keys.stride(1),
        layer=layers,
        **fusion,
    )
    return out


def _layer(out: Description, layer: DecoderLayer, cross: tuple[int, GatedCrossAttention] | None) -> LayerC:
    described = LayerC(
        input_norm=out.vector(layer.input_layernorm.weight),
        attended_norm=out.vector(layer.post_self_attn_layernorm.weight),
        mlp_norm=out.vector(layer.post_attention_layernorm.weight),
        mlp_out_norm=out.vector(layer.post_mlp_layernorm.weight),
        qkv=out.matrix(layer.self_attn.qkv),
        out=out.matrix(layer.self_attn.o_proj),
        gate_up=out.matrix(layer.mlp.gate_up),
        down=out.matrix(layer.mlp.down_proj),
        module=-1,
    )
    if cross is not None:
        described.module, module = cross
        described.gate = float(torch.tanh(module.gate.float()))
        described.cross_norm = out.vector(module.norm.weight)
        described.cross_q_norm = out.vector(module.q_norm.weight)
        described.cross_q, described.cross_out = out.matrix(module.q_proj), out.matrix(module.o_proj)
    return described


def _fusion(model: AutoGLMPhoneModel, out: Description, begin: int, end: int) -> dict[str, Any]:
    """Of layers ``[begin, end)``, some of which read images."""
    fusion, gate = model.config.fusion, model.time_gate
    number: Callable[[Tensor], float] = lambda tensor: float(tensor.float())  # noqa: E731
    return {
        "cross_heads": model.cross_attention[0].num_heads,
        "cross_kv_heads": model.cross_attention[0].num_kv_heads,
        "cross_head_dim": fusion.head_dim,
        "first_fusion": next(layer for layer in fusion.layers if layer >= begin) - begin,
        "queries_before": fusion.layers[0] < begin,
        "queries_after": end <= fusion.layers[-1],
        "gate_rank": fusion.gate_rank,
        "gate_first": share(fusion.gate_rank, model.comm.rank, model.comm.size)[0],
        "gate_scale": number(gate.scale),
        "gate_bias": number(gate.bias),
        "gate_text": out.matrix(gate.text_proj),
        "gate_norm": out.vector(gate.text_norm.weight),
    }
