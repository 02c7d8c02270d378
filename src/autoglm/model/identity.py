"""Which weights a model has: two models of equal identity compute equal values."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from autoglm.model.loading import read_json, shard_files
from autoglm.model.registry import Model

_HEADER_BYTES, _SAMPLES, _SAMPLE_BYTES = 2**20, 256, 1024


def weights_identity(model: Model) -> bytes:
    """sha-256 over configuration, number format, device kind, and every byte of every parameter.

    An adapter that was merged, or one changed weight, makes another model. Reads all weights once, on two threads.
    """
    names = sorted(name for name, _ in model.named_parameters())
    with ThreadPoolExecutor(2) as workers:
        digests = workers.map(lambda name: _digest(name, model.get_parameter(name)), names)
        whole = hashlib.sha256(repr((model.layout, model.config, str(model.dtype), model.device.type)).encode())
        for digest in digests:
            whole.update(digest)
    return whole.digest()


def _digest(name: str, parameter: Tensor) -> bytes:
    found = hashlib.sha256(repr((name, tuple(parameter.shape), str(parameter.dtype))).encode())
    raw = parameter.detach().contiguous().reshape(-1).view(torch.uint8).cpu()
    found.update(raw.numpy().data)
    return found.digest()


def checkpoint_digest(path: Path) -> bytes:
    """sha-256 over a checkpoint folder's configuration, names, shapes and sizes, and samples spread over its weights.

    Tells two checkpoints apart in milliseconds, however large: training changes all weights, so a sample shows it.
    A file that differs only between the samples is not noticed. Raises as loading does.
    """
    whole = hashlib.sha256(json.dumps(read_json(path / "config.json"), sort_keys=True).encode())
    for shard in shard_files(path):
        size = shard.stat().st_size
        whole.update(f"{shard.name} {size}".encode())
        with shard.open("rb") as file:
            whole.update(file.read(_HEADER_BYTES))
            for part in range(_SAMPLES):
                file.seek(size * (part + 1) // (_SAMPLES + 1))
                whole.update(file.read(_SAMPLE_BYTES))
    return whole.digest()
