"""Packed weights in one piece of memory, made before them: neither packing nor reading them holds them twice."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

import torch
from torch import Tensor

from autoglm.model.native.placement import Kind, bytes_in_all, cut, huge_piece
from autoglm.model.quantized import fp8
from autoglm.model.quantized.codes import GROUP
from autoglm.model.quantized.linear import QuantizedLinear, lies_in_tiles, put, quantized_names, scheme_of
from autoglm.model.registry import Model


class PackedPlaces:
    """A place for every tensor of the packed layers of a model, which still has them unpacked, or on the meta device.

    Args:
        device: what the packed layers decode on; the places are in host memory.
        huge_pages: where the system has them.
    """

    def __init__(self, model: Model, scheme: str, device: torch.device, *, huge_pages: bool) -> None:
        self._model = model
        self._tiles: dict[str, bool] = {}
        kinds: dict[str, Kind] = {}
        for name in quantized_names(model):
            weight = model.get_submodule(name).get_parameter("weight")
            rows, cols = weight.shape
            made = scheme_of(name, scheme, device)
            self._tiles[name] = lies_in_tiles(made, device)
            kinds |= {f"{name}.{part}": kind for part, kind in _kinds(made, rows, cols).items()}
            if getattr(model.get_submodule(name), "bias", None) is not None:
                kinds[f"{name}.bias"] = ((rows,), torch.float32)
        wanted = list(kinds.values())
        piece = huge_piece(bytes_in_all(wanted)) if huge_pages else None
        if piece is None:
            piece = torch.empty(bytes_in_all(wanted), dtype=torch.uint8)
        self._places = dict(zip(kinds, cut(piece, wanted), strict=True))

    def install(self, tensors: Iterable[tuple[str, Tensor]]) -> bool:
        """Copy stored tensors and give the model its packed layers; ``False`` if one is missing, or of another kind."""
        missing = set(self._places)
        for name, tensor in tensors:
            place = self._places.get(name)
            if place is None or (place.shape, place.dtype) != (tensor.shape, tensor.dtype):
                return False
            place.copy_(tensor)
            missing.discard(name)
        if missing:
            return False
        for name in quantized_names(self._model):
            put(self._model, name, self._layer(name))
        return True

    def put(self, name: str, layer: QuantizedLinear) -> None:
        """Copy a layer that was just packed, and give it to the model."""
        for part, tensor in layer.named_buffers():
            self._places[f"{name}.{part}"].copy_(tensor)
        put(self._model, name, self._layer(name))

    def _layer(self, name: str) -> QuantizedLinear:
        packed, scales = self._places[f"{name}.packed"], self._places[f"{name}.scales"]
        return QuantizedLinear(packed, scales, self._places.get(f"{name}.bias"), tiles=self._tiles[name])


def give_back() -> None:
    """Hand what the allocator keeps of freed memory to the system, where it can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _kinds(scheme: str, rows: int, cols: int) -> dict[str, Kind]:
    if scheme == "int4" and cols % GROUP == 0:
        return {"packed": ((rows, cols // 2), torch.uint8), "scales": ((rows, cols // GROUP), torch.bfloat16)}
    dtype = fp8.DTYPE if scheme == "fp8" else torch.int8
    return {"packed": ((rows, cols), dtype), "scales": ((rows,), torch.float32)}
