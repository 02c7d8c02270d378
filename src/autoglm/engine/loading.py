"""A checkpoint, as the options want it: number format, packed weights, device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from autoglm import env
from autoglm.engine.config import EngineConfig
from autoglm.errors import InvalidInputError
from autoglm.model.loading import LoadProgress, load_checkpoint
from autoglm.model.quantized import load_quantized
from autoglm.model.registry import Model


def device_kind(config: EngineConfig) -> str:
    """What the options ask for; ``auto``: CUDA if there, else the CPU."""
    if config.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return config.device


def check_device(scheme: str, device: torch.device) -> None:
    """Raise :class:`InvalidInputError` if weights packed so do not work there."""
    if scheme == "int8" and device.type != "cpu":
        raise InvalidInputError(
            f"quantization int8 works on the CPU, not on {device}: use fp8",
            field="quantization",
            limit="cpu",
            value=str(device),
        )


def load_model(
    path: Path,
    config: EngineConfig,
    device: torch.device,
    progress: LoadProgress | None = None,
    prepare: Callable[[Model], None] | None = None,
) -> Model:
    """Read a checkpoint. Raises as loading does.

    Args:
        prepare: cuts the empty model to this rank's part. What is packed is kept on disk for whole models only.
    """
    dtype = None if config.dtype == "auto" else getattr(torch, config.dtype)
    if dtype is None and device.type == "cpu":
        dtype = torch.float32
    if config.quantization == "none":
        return load_checkpoint(path, dtype=dtype, device=device, progress=progress, prepare=prepare)
    check_device(config.quantization, device)
    return load_quantized(
        path,
        config.quantization,
        dtype=dtype,
        device=device,
        store=env.cache_dir() / "packed" if prepare is None else None,
        progress=progress,
        prepare=prepare,
        huge_pages=config.huge_pages,
    )
