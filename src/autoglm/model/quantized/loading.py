"""A checkpoint with its decoder packed: from the store if it is there, else packed now and stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from autoglm.errors import InvalidInputError
from autoglm.model.loading import LoadProgress, Take, checkpoint_targets, empty_model, fill
from autoglm.model.quantized.linear import (
    ALL_SCHEMES,
    QuantizedLinear,
    columns_of,
    head_scheme,
    lies_in_tiles,
    quantize,
    quantized_names,
    scheme_of,
)
from autoglm.model.quantized.memory import PackedPlaces, give_back
from autoglm.model.quantized.store import QuantizedStore
from autoglm.model.registry import Model


def load_quantized(
    path: Path,
    scheme: str,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    store: Path | None = None,
    progress: LoadProgress | None = None,
    prepare: Callable[[Model], None] | None = None,
    huge_pages: bool = True,
) -> Model:
    """As :func:`autoglm.model.loading.load_checkpoint`, with int8, int4 or fp8 weights in the decoder.

    They are packed in host memory, layer by layer as they are read, and sent to the device then. At most one layer is
    held unpacked beside the packed ones.

    Args:
        dtype: of what is not packed.
        store: folder of packed weights; ``None``: nothing is kept.
        prepare: as in loading; what is kept is whole models, so not beside ``store``.
        huge_pages: for the packed weights, where the system has them.

    Raises:
        InvalidInputError: no such scheme. Further as loading does.
    """
    if scheme not in ALL_SCHEMES:
        raise InvalidInputError(
            f"quantization must be one of {', '.join(ALL_SCHEMES)}, got {scheme}", field="quantization", value=scheme
        )
    device = torch.device(device)
    kept = None if store is None else QuantizedStore(store)
    head = head_scheme(scheme, device)
    file = None if kept is None else kept.file_of(path, scheme if head in ("int8", scheme) else f"{scheme}-{head}")
    model = empty_model(path)
    if prepare is not None:
        prepare(model)
    host, stored = torch.device("cpu"), frozenset(checkpoint_targets(model))
    places = PackedPlaces(model, scheme, device, huge_pages=huge_pages)
    if kept is not None and file is not None and kept.read(file, places.install):
        fill(model, path, dtype, host, progress, skip=stored - frozenset(checkpoint_targets(model)))
    else:
        fill(model, path, dtype, host, progress, take=_packer(model, scheme, device, places))
        quantize(model, scheme, device, places.put)  # a head that is tied to the embeddings is not in the checkpoint
        if kept is not None and file is not None:
            kept.write(file, extract(model))
    give_back()
    return model.eval().to(device)


def _packer(model: Model, scheme: str, device: torch.device, places: PackedPlaces) -> Take:
    """Packs a layer as soon as it has been read: one at a time is held unpacked."""
    names = frozenset(quantized_names(model))

    def take(name: str, parameters: dict[str, Tensor]) -> None:
        if name in names:
            weight, bias = parameters.pop(f"{name}.weight"), parameters.pop(f"{name}.bias", None)
            made, columns = scheme_of(name, scheme, device), columns_of(model, name)
            tiles = lies_in_tiles(made, device)
            places.put(name, QuantizedLinear.from_weight(weight, bias, made, columns, tiles=tiles))

    return take


def extract(model: Model) -> dict[str, Tensor]:
    """The packed layers' tensors, by name."""
    return {
        f"{name}.{part}": tensor.contiguous()
        for name in quantized_names(model)
        for part, tensor in model.get_submodule(name).named_buffers()
    }
