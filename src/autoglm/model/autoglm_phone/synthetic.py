"""A tiny random-weight ``autoglm_phone`` checkpoint, for tests and demonstrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from autoglm.model.autoglm_phone.config import (
    MODEL_TYPE,
    AutoGLMPhoneConfig,
    FusionConfig,
    PhoneTextConfig,
    PhoneVisionConfig,
    section_dict,
)
from autoglm.model.autoglm_phone.model import AutoGLMPhoneModel
from autoglm.model.initialise import initialise
from autoglm.model.loading import SINGLE, checkpoint_targets
from autoglm.model.synthetic import write_configs

_TURN_STARTS = ("<|system|>", "<|user|>", "<|observation|>")
_GATE = 1.0  # an open gate: the image must change the answer
_SHARPNESS = 2.0
_GAIN = 4.0


def tiny_phone_config(
    token_ids: Mapping[str, int], stop_token_ids: Sequence[int], *, vocab_size: int = 8192, context: int = 8192
) -> dict[str, Any]:
    """A ``config.json`` with the published grid (576 tokens, patch 14) and very small widths."""
    text = PhoneTextConfig(
        vocab_size=vocab_size,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        intermediate_size=256,
        max_position_embeddings=context,
    )
    vision = PhoneVisionConfig(hidden_size=64, depth=2, num_heads=2, intermediate_size=128)
    fusion = FusionConfig(layers=(2, 3), num_heads=4, num_kv_heads=2, head_dim=32, gate_rank=16)
    return {
        "model_type": MODEL_TYPE,
        "dtype": "bfloat16",
        "text_config": section_dict(text),
        "vision_config": section_dict(vision),
        "fusion_config": section_dict(fusion),
        "image_token_id": token_ids["<|image|>"],
        "turn_start_token_ids": [token_ids[name] for name in _TURN_STARTS],
        "eos_token_id": list(stop_token_ids),
        "pad_token_id": stop_token_ids[0],
    }


def write_phone_weights(
    directory: Path,
    *,
    seed: int = 0,
    token_ids: Mapping[str, int],
    stop_token_ids: Sequence[int],
    vocab_size: int = 8192,
    context: int = 8192,
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Write ``config.json``, ``generation_config.json`` and weights; the bytes depend on the arguments alone.

    Args:
        token_ids: of ``<|image|>``, ``<|system|>``, ``<|user|>`` and ``<|observation|>`` at least.
    """
    raw = tiny_phone_config(token_ids, stop_token_ids, vocab_size=vocab_size, context=context)
    write_configs(directory, raw, stop_token_ids)
    model = AutoGLMPhoneModel(AutoGLMPhoneConfig.from_dict(raw))
    initialise(model, seed, std=0.08)
    open_gates(model)
    tensors = {}
    for name, target in checkpoint_targets(model).items():
        parameter = model.get_parameter(target.parameter).detach()
        part = parameter if parameter.dim() == 0 else parameter.narrow(0, target.start, target.rows)
        tensors[name] = part.to(dtype).clone().contiguous()
    save_file(tensors, directory / SINGLE, {"format": "pt"})


@torch.no_grad()
def open_gates(model: AutoGLMPhoneModel) -> None:
    """Open the gates, sharpen the cross-attention (untrained, it would average all images to the same), and give
    what it adds the size of what the other branches add."""
    for module in model.cross_attention:
        module.gate.fill_(_GATE)
        module.q_norm.weight.fill_(_SHARPNESS)
        module.k_norm.weight.fill_(_SHARPNESS)
        module.v_proj.weight.mul_(_GAIN)
        module.o_proj.weight.mul_(_GAIN)
