"""Very small models of both layouts, of widths that the kernels take."""

from __future__ import annotations

from dataclasses import replace

import torch

from autoglm.model.autoglm_phone import AutoGLMPhoneModel
from autoglm.model.config import Glm4vConfig
from autoglm.model.glm4v import Glm4vModel
from autoglm.model.initialise import initialise
from tests.model.autoglm_phone.models import TINY, tiny_model

PHONE = replace(TINY, fusion=replace(TINY.fusion, head_dim=16))
GLM = Glm4vConfig(
    text=replace(PHONE.text.decoder(), rotary_dim=12, mrope_section=(2, 1, 3)),
    vision=replace(PHONE.vision.blocks(), merge_size=2, merger_size=16),
    image_token_id=61,
    stop_token_ids=(62,),
)


def phone_model() -> AutoGLMPhoneModel:
    model = AutoGLMPhoneModel(PHONE).eval().requires_grad_(False)
    state = tiny_model().state_dict()
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        other = state[name]
        same = other.shape == parameter.shape
        parameter.copy_(other if same else torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def glm_model() -> Glm4vModel:
    model = Glm4vModel(GLM).eval().requires_grad_(False)
    initialise(model, 0, std=0.2)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in sorted(model.named_parameters()):
        if "norm" in name or name.endswith(".bias"):
            parameter.uniform_(-1.5, 1.5, generator=generator)
    return model
