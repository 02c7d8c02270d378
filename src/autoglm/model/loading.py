"""Streaming checkpoint loading: a piece of a shard is mapped, copied into place tensor by tensor, and let go.

Peak host memory is the weights plus one piece. Nothing is skipped: a tensor that is missing, unknown or of
another shape is an error that names it.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from autoglm.errors import CheckpointNotFoundError, CorruptCheckpointError
from autoglm.model.layers import FusedLinear
from autoglm.model.registry import Model, build_model
from autoglm.parallel.tensor import Sharding

LoadProgress = Callable[[int, int], None]
"""``progress(bytes done, bytes in all)``"""
Take = Callable[[str, dict[str, Tensor]], None]
"""Called with a module's name and all parameters read so far, once the module's are complete; it may remove those."""
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_MAPPED_BYTES = 32 * 2**20
"""Pages of a mapped file count as this process's memory until it is unmapped."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a checkpoint tensor goes: ``parameter[start : start + rows]``."""

    parameter: str
    start: int
    rows: int

    @property
    def module(self) -> str:
        """Of the parameter."""
        return self.parameter.rpartition(".")[0]


def load_checkpoint(
    path: Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    progress: LoadProgress | None = None,
    prepare: Callable[[Model], None] | None = None,
) -> Model:
    """Build the model of ``path/config.json`` and fill it.

    Args:
        dtype: float32, bfloat16 or float16; ``None``: as stored.
        prepare: changes the model while it has no weights, as :func:`autoglm.model.sharding.shard` does.

    Raises:
        CheckpointNotFoundError, CorruptCheckpointError, UnsupportedCheckpointError: naming file and tensor.
    """
    model = empty_model(path)
    if prepare is not None:
        prepare(model)
    fill(model, path, dtype, torch.device(device), progress)
    return model.eval()


def empty_model(path: Path) -> Model:
    """The model of a checkpoint folder on the meta device: shapes and configuration, no weights. Raises as loading."""
    config = read_json(path / "config.json")
    generation = path / "generation_config.json"
    with torch.device("meta"):
        return build_model(config, read_json(generation) if generation.exists() else None)


def fill(
    model: Model,
    path: Path,
    dtype: torch.dtype | None,
    device: torch.device,
    progress: LoadProgress | None,
    skip: Collection[str] = (),
    take: Take | None = None,
) -> None:
    """Fill a model that stands on the meta device, but for the tensors named in ``skip`` and what ``take`` takes."""
    targets = checkpoint_targets(model)
    missing = set(targets)
    waiting = Counter(target.module for target in targets.values())
    skip = model.elsewhere.union(skip)
    shards = shard_files(path)
    total, done = sum(s.stat().st_size for s in shards), 0
    parameters: dict[str, Tensor] = {}
    for shard in shards:
        for name, tensor in stored_tensors(shard, model.sharding, skip):
            target = targets.get(name)
            if target is None:
                raise CorruptCheckpointError(f"{shard.name} holds {name}, which this model has not", field=name)
            if name not in missing:
                raise CorruptCheckpointError(f"{name} stands in two shards, again in {shard.name}", field=name)
            if target.parameter not in parameters:
                shape = model.get_parameter(target.parameter).shape
                parameters[target.parameter] = torch.empty(shape, dtype=dtype or tensor.dtype, device=device)
            _copy(model, name, tensor, target, parameters[target.parameter], shard)
            missing.discard(name)
            waiting[target.module] -= 1
            if take is not None and not waiting[target.module]:
                take(target.module, parameters)
        done += shard.stat().st_size
        if progress is not None:
            progress(done, total)
    if missing:
        raise CorruptCheckpointError(
            f"{path} lacks {len(missing)} tensors, the first is {min(missing)}", field=min(missing)
        )
    install_parameters(model, parameters, device)


def checkpoint_targets(model: nn.Module) -> dict[str, Target]:
    """Checkpoint name -> place, for every parameter; fused layers contribute one entry per part."""
    targets: dict[str, Target] = {}
    for prefix, module in model.named_modules():
        fused = isinstance(module, FusedLinear)
        for name, parameter in module.named_parameters(recurse=False):
            full = f"{prefix}.{name}"
            if not fused:
                targets[full] = Target(full, 0, parameter.shape[0] if parameter.dim() else 1)
                continue
            start, parent = 0, prefix.rpartition(".")[0]
            for part, rows in module.parts:
                targets[f"{parent}.{part}.{name}"] = Target(full, start, rows)
                start += rows
    if getattr(getattr(model, "config", None), "tie_word_embeddings", False):
        targets.pop("lm_head.weight", None)
    return targets


def shard_files(path: Path) -> list[Path]:
    """The safetensors files of a checkpoint, in order; each is there."""
    if (path / INDEX).exists():
        weight_map = read_json(path / INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CorruptCheckpointError(f"{path / INDEX} has no weight_map", field=INDEX)
        names = sorted(set(weight_map.values()))
    else:
        names = [SINGLE]
    for name in names:
        if not (path / name).is_file():
            raise CheckpointNotFoundError(f"shard {name} is missing from {path}; copy the checkpoint again", field=name)
    return [path / name for name in names]


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a checkpoint."""
    if not file.is_file():
        raise CheckpointNotFoundError(f"{file} does not exist; a checkpoint folder needs it", field=file.name)
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorruptCheckpointError(f"{file} is not valid JSON: {error}", field=file.name) from error
    if not isinstance(raw, dict):
        raise CorruptCheckpointError(f"{file} is not a JSON object", field=file.name)
    return raw


def stored_tensors(
    file: Path, sharding: Sharding | None = None, skip: Collection[str] = ()
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a file in their order there, of each what this rank holds; nothing else is read.

    Raises:
        CorruptCheckpointError: naming the file.
    """
    left: deque[str] | None = None
    try:
        while left is None or left:
            with safe_open(file, framework="pt", device="cpu") as tensors:
                if left is None:
                    left = deque(name for name in tensors.offset_keys() if name not in skip)
                mapped = 0
                while left and mapped < _MAPPED_BYTES:
                    name = left.popleft()
                    if sharding is None or sharding.cut_of(name) is None:
                        tensor = tensors.get_tensor(name)
                    else:
                        tensor = _part(tensors.get_slice(name), name, sharding)
                    mapped += tensor.nbytes
                    yield name, tensor
    except (SafetensorError, OSError) as error:
        raise CorruptCheckpointError(f"{file} cannot be read: {error}", field=file.name) from error


def _part(stored: Any, name: str, sharding: Sharding) -> Tensor:
    """This rank's part of a tensor of a safetensors file."""
    found = sharding.ranges(name, tuple(stored.get_shape()))
    assert found is not None  # the caller has asked
    dim, ranges = found
    parts = [stored[start:end] if dim == 0 else stored[:, start:end] for start, end in ranges]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def _copy(model: Model, name: str, tensor: Tensor, target: Target, parameter: Tensor, shard: Path) -> None:
    order = model.checkpoint_transforms().get(name)
    place = parameter if parameter.dim() == 0 else parameter.narrow(0, target.start, target.rows)
    value = tensor.permute(order).flatten(1) if order and tensor.dim() == len(order) else tensor
    if value.shape != place.shape:
        raise CorruptCheckpointError(
            f"{name} in {shard.name} has shape {tuple(tensor.shape)}, the model needs {tuple(place.shape)}",
            field=name,
            limit=str(tuple(place.shape)),
            value=str(tuple(tensor.shape)),
        )
    place.copy_(value)


def install_parameters(model: Model, parameters: dict[str, Tensor], device: torch.device) -> None:
    """Put tensors in the place of a model's parameters, and its buffers on the device."""
    for full, tensor in parameters.items():
        prefix, _, name = full.rpartition(".")
        setattr(model.get_submodule(prefix), name, nn.Parameter(tensor, requires_grad=False))
    if getattr(model.config, "tie_word_embeddings", False) and isinstance(model.lm_head, nn.Linear):
        model.lm_head.weight = model.decoder.embed_tokens.weight
    for module in model.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, buffer.to(device))
