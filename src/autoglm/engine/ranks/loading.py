"""This rank's part of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from autoglm.engine.config import EngineConfig
from autoglm.engine.loading import check_device, device_kind, load_model
from autoglm.model.loading import empty_model
from autoglm.model.quantized import check_packing
from autoglm.model.registry import Model
from autoglm.model.sharding import check_sharding, shard
from autoglm.model.stage import cut
from autoglm.parallel.mesh import Mesh, Place
from autoglm.parallel.pipeline.partition import Stage


def place_of(config: EngineConfig, rank: int) -> Place:
    """Where a rank of the replica that the options describe stands. Raises :class:`InvalidInputError`."""
    return Place(rank, config.tensor_parallel_size, config.pipeline_parallel_size)


def device_of(config: EngineConfig, place: Place) -> torch.device:
    """The rank's device; the ranks of a host take its GPUs in order."""
    kind = device_kind(config)
    if kind == "cuda":
        kind = f"cuda:{place.rank % torch.cuda.device_count()}"
    return torch.device(kind)


def check_shares(path: Path, config: EngineConfig) -> None:
    """Raise :class:`InvalidInputError` if the model cannot be shared out over so many ranks, before any is started."""
    model, size = empty_model(path), config.tensor_parallel_size
    check_sharding(model, size, config.vision_parallel)
    if config.quantization != "none":
        check_device(config.quantization, device_of(config, place_of(config, 0)))
        check_packing(model, config.quantization, size)


def load_part(
    path: Path,
    config: EngineConfig,
    device: torch.device,
    mesh: Mesh,
    progress: Callable[[int, int], None] | None = None,
    stage: Stage | None = None,
) -> Model:
    """Read what this rank holds of a checkpoint, and nothing else. Raises as loading does."""

    def prepare(model: Model) -> None:
        if mesh.tensor.size > 1:
            shard(model, mesh.tensor, config.vision_parallel)
        if stage is not None:
            cut(model, stage)

    return load_model(path, config, device, progress, prepare)
