"""This rank's part of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from autoglm.engine.config import EngineConfig
from autoglm.errors import InvalidInputError
from autoglm.model.loading import empty_model, load_checkpoint
from autoglm.model.quantized import check_packing, load_quantized
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
    kind = config.device
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
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


def check_device(scheme: str, device: torch.device) -> None:
    """Raise :class:`InvalidInputError` if weights packed so do not work there."""
    if scheme == "int8" and device.type != "cpu":
        raise InvalidInputError(
            f"quantization int8 works on the CPU, not on {device}: use fp8",
            field="quantization",
            limit="cpu",
            value=str(device),
        )


def load_part(
    path: Path,
    config: EngineConfig,
    device: torch.device,
    mesh: Mesh,
    progress: Callable[[int, int], None] | None = None,
    stage: Stage | None = None,
) -> Model:
    """Read what this rank holds of a checkpoint, and nothing else. Raises as loading does."""
    dtype = None if config.dtype == "auto" else getattr(torch, config.dtype)
    if dtype is None and device.type == "cpu":
        dtype = torch.float32

    def prepare(model: Model) -> None:
        if mesh.tensor.size > 1:
            shard(model, mesh.tensor, config.vision_parallel)
        if stage is not None:
            cut(model, stage)

    if config.quantization == "none":
        return load_checkpoint(path, dtype=dtype, device=device, progress=progress, prepare=prepare)
    return load_quantized(
        path,
        config.quantization,
        dtype=dtype,
        device=device,
        progress=progress,
        prepare=prepare,
        huge_pages=config.huge_pages,
    )
