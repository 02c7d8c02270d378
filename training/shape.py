"""The embedded model's shape, and its configuration files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoglm.model.autoglm_phone.config import FusionConfig, PhoneTextConfig, PhoneVisionConfig, section_dict

NAME = "autoglm-phone-mini"
COLUMNS, ROWS, PATCH = 12, 27, 16
CELLS = ROWS * COLUMNS
"""A 20:9 screen, 192 x 432 pixels, in 324 patches of 16."""
HIDDEN = 192
READING_HEAD, READING_MODULES = 0, 2
"""This head of the first cross-attention modules is taught to look at the cell the next token is about."""
COPYING_HEADS, COPYING_LAYER = (0, 3), 3
"""These heads of self-attention are taught to look at the token that is to be copied, and to say it."""

TURN_STARTS = ("<|system|>", "<|user|>", "<|observation|>")
STOPS = ("</answer>", "<|endoftext|>", "<|user|>", "<|observation|>")


def text_config(vocab_size: int) -> PhoneTextConfig:
    """Six layers; fp16 weights of the whole model take about 10 MB."""
    return PhoneTextConfig(
        vocab_size=vocab_size,
        hidden_size=HIDDEN,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        intermediate_size=448,
        max_position_embeddings=1024,
    )


def vision_config() -> PhoneVisionConfig:
    """Three blocks behind a convolutional stem."""
    return PhoneVisionConfig(
        hidden_size=160,
        depth=3,
        num_heads=5,
        intermediate_size=432,
        patch_size=PATCH,
        num_tokens=CELLS,
        stem_channels=(16, 32, 64, 128),
    )


def fusion_config() -> FusionConfig:
    """Images are read in layers 2 to 4; one layer is left behind them to say what was seen."""
    return FusionConfig(layers=(2, 3, 4), num_heads=6, num_kv_heads=3, head_dim=32, gate_rank=32)


def config_json(token_ids: Mapping[str, int], vocab_size: int) -> dict[str, Any]:
    """``config.json`` of the checkpoint."""
    return {
        "model_type": "autoglm_phone",
        "architectures": ["AutoGLMPhoneModel"],
        "dtype": "float16",
        "text_config": section_dict(text_config(vocab_size)),
        "vision_config": section_dict(vision_config()),
        "fusion_config": section_dict(fusion_config()),
        "image_token_id": token_ids["<|image|>"],
        "turn_start_token_ids": [token_ids[name] for name in TURN_STARTS],
        "eos_token_id": [token_ids[name] for name in STOPS],
        "pad_token_id": token_ids["<|endoftext|>"],
    }
