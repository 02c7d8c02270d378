"""config.json: both spellings of the rotary fields, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from autoglm.errors import UnsupportedCheckpointError
from autoglm.model.config import Glm4vConfig
from autoglm.model.registry import build_model
from tests.model.conftest import STOPS, config_of


def legacy(raw: dict[str, Any]) -> dict[str, Any]:
    """The same configuration as older files spell it."""
    raw = copy.deepcopy(raw)
    rope = raw["text_config"].pop("rope_parameters")
    raw["text_config"] |= {
        "rope_theta": rope["rope_theta"],
        "partial_rotary_factor": rope["partial_rotary_factor"],
        "rope_scaling": {"type": "default", "mrope_section": rope["mrope_section"]},
    }
    return raw


def test_legacy_rope_fields_mean_the_same() -> None:
    raw = config_of("tiny")
    assert Glm4vConfig.from_dict(legacy(raw)) == Glm4vConfig.from_dict(raw)


@pytest.mark.parametrize("field", ["partial_rotary_factor", "mrope_section", "rope_theta"])
def test_missing_rope_field_is_named(field: str) -> None:
    raw = copy.deepcopy(config_of("tiny"))
    del raw["text_config"]["rope_parameters"][field]
    with pytest.raises(UnsupportedCheckpointError) as caught:
        Glm4vConfig.from_dict(raw)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("generation", "expected"),
    [({"eos_token_id": [7, 8]}, (7, 8)), ({"eos_token_id": 9}, (9,)), ({}, STOPS), (None, STOPS)],
)
def test_stop_ids(generation: dict[str, Any] | None, expected: tuple[int, ...]) -> None:
    assert Glm4vConfig.from_dict(config_of("tiny"), generation).stop_token_ids == expected


@pytest.mark.parametrize("kind", ["llama", None, "glm4v_moe"])
def test_other_models_are_refused(kind: str | None) -> None:
    with pytest.raises(UnsupportedCheckpointError, match="model_type") as caught:
        build_model(config_of("tiny", model_type=kind))
    assert caught.value.field == "model_type"


@pytest.mark.parametrize("field", ["hidden_size", "num_key_value_heads", "vocab_size"])
def test_missing_field_is_named(field: str) -> None:
    raw = copy.deepcopy(config_of("tiny"))
    del raw["text_config"][field]
    with pytest.raises(UnsupportedCheckpointError) as caught:
        Glm4vConfig.from_dict(raw)
    assert caught.value.field == field


def test_sections_must_cover_the_rotary_part() -> None:
    raw = copy.deepcopy(config_of("tiny"))
    raw["text_config"]["rope_parameters"]["mrope_section"] = [1, 2, 3]
    with pytest.raises(UnsupportedCheckpointError, match="mrope_section"):
        Glm4vConfig.from_dict(raw)


def test_unknown_rope_type() -> None:
    raw = copy.deepcopy(config_of("tiny"))
    raw["text_config"]["rope_parameters"]["rope_type"] = "yarn"
    with pytest.raises(UnsupportedCheckpointError, match="yarn"):
        Glm4vConfig.from_dict(raw)


def published_config() -> dict[str, Any]:
    """The published 9B checkpoint's numbers."""
    text = {
        "vocab_size": 151552,
        "hidden_size": 4096,
        "num_hidden_layers": 40,
        "num_attention_heads": 32,
        "num_key_value_heads": 2,
        "intermediate_size": 13696,
        "max_position_embeddings": 65536,
        "rms_norm_eps": 1e-5,
        "partial_rotary_factor": 0.5,
        "rope_theta": 10000.0,
        "rope_scaling": {"type": "default", "mrope_section": [8, 12, 12]},
        "eos_token_id": [151329, 151336, 151338, 151348],
    }
    vision = {
        "hidden_size": 1536,
        "depth": 24,
        "num_heads": 12,
        "out_hidden_size": 4096,
        "intermediate_size": 13696,
        "image_size": 336,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    return {"model_type": "glm4v", "image_token_id": 151343, "text_config": text, "vision_config": vision}


def test_published_size() -> None:
    import torch

    with torch.device("meta"):
        model = build_model(published_config())
    assert sum(p.numel() for p in model.parameters()) == 10_292_777_472
    assert sum(p.numel() for p in model.visual.parameters()) == 892_498_432
    assert model.kv_spec.bytes_per_token == 81_920  # fp32; 40,960 in bf16
