"""A checkpoint with its decoder packed: from the store if it is there, else packed now and stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from autoglm.errors import InvalidInputError
from autoglm.model.loading import LoadProgress, checkpoint_targets, empty_model, fill
from autoglm.model.quantized.linear import ALL_SCHEMES, QuantizedLinear, head_scheme, put, quantize, quantized_names
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
) -> Model:
    """As :func:`autoglm.model.loading.load_checkpoint`, with int8, int4 or fp8 weights in the decoder.

    They are packed in host memory, which so must hold the checkpoint, and sent to the device then.

    Args:
        dtype: of what is not packed.
        store: folder of packed weights; ``None``: nothing is kept.
        prepare: as in loading; what is kept is whole models, so not beside ``store``.

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
    packed = kept.read(file) if kept is not None and file is not None else None
    model = empty_model(path)
    if packed is not None and install(model, packed):
        fill(model, path, dtype, torch.device("cpu"), progress, skip=packed_targets(path, model))
        return model.eval().to(device)
    model = empty_model(path)
    if prepare is not None:
        prepare(model)
    fill(model, path, dtype, torch.device("cpu"), progress)
    quantize(model, scheme, device)
    if kept is not None and file is not None:
        kept.write(file, extract(model))
    return model.eval().to(device)


def extract(model: Model) -> dict[str, Tensor]:
    """The packed layers' tensors, by name."""
    return {
        f"{name}.{part}": tensor.contiguous()
        for name in quantized_names(model)
        for part, tensor in model.get_submodule(name).named_buffers()
    }


def install(model: Model, tensors: dict[str, Tensor]) -> bool:
    """Put stored layers into a model; ``False`` if one is missing or of another shape."""
    for name in quantized_names(model):
        packed, scales = tensors.get(f"{name}.packed"), tensors.get(f"{name}.scales")
        if packed is None or scales is None:
            return False
        layer = QuantizedLinear(packed, scales, tensors.get(f"{name}.bias"))
        if (layer.rows, layer.cols) != tuple(model.get_submodule(name).get_parameter("weight").shape):
            return False
        put(model, name, layer)
    return True


def packed_targets(path: Path, model: Model) -> frozenset[str]:
    """Checkpoint names whose values a model has in packed form already."""
    return frozenset(checkpoint_targets(empty_model(path))) - frozenset(checkpoint_targets(model))
