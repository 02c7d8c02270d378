"""Random weights for a model made from a configuration alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from autoglm.model.autoglm_phone.model import AutoGLMPhoneModel

_RESIDUAL = ("o_proj.weight", "down_proj.weight", "attn.proj.weight")


@torch.no_grad()
def initialise(model: AutoGLMPhoneModel, seed: int = 0, std: float = 0.02) -> AutoGLMPhoneModel:
    """Fill all weights; the same seed, dtype and kind of device give the same weights.

    Normal weights of ``std``; the projections that end in a residual stream are smaller by ``sqrt(2 * depth)``
    (GPT-2, Radford et al. 2019); norms 1, biases 0, and gates 0, so that training starts from the text model.
    """
    generator = torch.Generator(model.device).manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        _fill(name, parameter, generator, std, model)
    return model


def _fill(name: str, parameter: Tensor, generator: torch.Generator, std: float, model: AutoGLMPhoneModel) -> None:
    if "norm" in name or name.endswith(".scale"):
        parameter.fill_(1.0)
    elif name.endswith((".bias", ".gate")):
        parameter.zero_()
    elif name.endswith(_RESIDUAL):
        depth = model.config.vision.depth if ".visual." in name else model.config.text.num_hidden_layers
        parameter.normal_(0.0, std / math.sqrt(2 * depth), generator=generator)
    else:
        parameter.normal_(0.0, std, generator=generator)
