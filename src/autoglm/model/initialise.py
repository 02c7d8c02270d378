"""Random weights for a model made from a configuration alone, in either layout."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from autoglm.model.loading import install_parameters
from autoglm.model.registry import Model

_RESIDUAL = ("o_proj.weight", "down_proj.weight", "attn.proj.weight")


def materialise(model: Model, dtype: torch.dtype, device: torch.device) -> None:
    """Give a model that stands on the meta device memory, not yet set."""
    empty = {name: torch.empty(p.shape, dtype=dtype, device=device) for name, p in model.named_parameters()}
    install_parameters(model, empty, device)
    model.eval()


@torch.no_grad()
def initialise(model: Model, seed: int = 0, std: float = 0.02) -> Model:
    """Fill all weights; the same seed, dtype and kind of device give the same weights.

    Normal weights of ``std``; the projections that end in a residual stream are smaller by ``sqrt(2 * depth)``
    (GPT-2, Radford et al. 2019); norms 1, biases 0, and gates 0, so that training starts from the text model.
    """
    generator = torch.Generator(model.device).manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        depth = model.config.vision.depth if ".visual." in name else len(model.decoder.layers)
        _fill(name, parameter, generator, std, depth)
    return model


def _fill(name: str, parameter: Tensor, generator: Generator, std: float, depth: int) -> None:
    if name.endswith((".bias", ".gate")):
        parameter.zero_()
    elif "norm" in name or name.endswith(".scale"):
        parameter.fill_(1.0)
    else:
        scale = std / math.sqrt(2 * depth) if name.endswith(_RESIDUAL) else std
        parameter.normal_(0.0, scale, generator=generator)
