"""Which weights a model has: two models of equal identity compute equal values."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from autoglm.model.registry import Model


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
