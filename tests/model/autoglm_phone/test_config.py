"""Reading the configuration, and the size of the model it describes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from autoglm.errors import CorruptCheckpointError, UnsupportedCheckpointError
from autoglm.model.autoglm_phone import AutoGLMPhoneConfig, AutoGLMPhoneModel, reference_config
from autoglm.model.autoglm_phone.synthetic import tiny_phone_config, write_phone_weights
from autoglm.model.initialise import initialise, materialise
from autoglm.model.loading import load_checkpoint
from autoglm.model.registry import build_model

IDS = {"<|image|>": 50, "<|system|>": 51, "<|user|>": 52, "<|observation|>": 53}


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_size_of_the_9b_model() -> None:
    with torch.device("meta"):
        model = AutoGLMPhoneModel(AutoGLMPhoneConfig.from_dict(reference_config()))
    gate = count(model.time_gate)
    assert gate == 2 * 4096 * 128 + 2 * 128 + 2
    vision = count(model.visual)
    decoder = count(model) - vision
    assert vision == 1_199_978_496
    assert decoder == 7_802_116_104 + gate
    assert count(model) == 9_002_094_600 + gate
    assert abs(vision / 1.2e9 - 1) < 0.01
    assert abs(decoder / 7.8e9 - 1) < 0.01
    assert abs(count(model) / 9.0e9 - 1) < 0.01
    assert [count(module) for module in model.cross_attention] == [35_655_937] * 8
    assert count(model.decoder.layers[0]) == 196_104_704
    assert model.context_length == 8192
    assert model.config.vision.num_tokens == 576
    assert model.kv_spec.bytes_per_token == 2 * 32 * 2 * 128 * 4
    assert model.to(torch.bfloat16).kv_spec.bytes_per_token == 32_768


def without(raw: dict[str, Any], *path: str) -> dict[str, Any]:
    head, *rest = path
    inner = {head: without(raw[head], *rest)} if rest else {}
    return {k: v for k, v in raw.items() if k != head} | inner


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"surprise": 1}, "surprise"),
        ({"model_type": "glm4v"}, "model_type"),
        ({"vision_config": None}, "vision_config"),
        ({"image_token_id": -1}, "image_token_id"),
        ({"turn_start_token_ids": 5}, "turn_start_token_ids"),
        ({"turn_start_token_ids": []}, "turn_start_token_ids and image_token_id"),
        ({"image_token_id": 200_000}, "turn_start_token_ids and image_token_id"),
        ({"eos_token_id": None}, "eos_token_id"),
    ],
)
def test_top_level_faults_are_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(UnsupportedCheckpointError) as caught:
        AutoGLMPhoneConfig.from_dict(reference_config() | change)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("section", "change", "field"),
    [
        ("text_config", {"rope_scaling": {}}, "rope_scaling"),
        ("text_config", {"hidden_size": "4096"}, "text_config.hidden_size"),
        ("text_config", {"rms_norm_eps": 0}, "text_config.rms_norm_eps"),
        ("text_config", {"partial_rotary_factor": 1.5}, "text_config.partial_rotary_factor"),
        ("text_config", {"num_key_value_heads": 5}, "text_config.num_key_value_heads"),
        ("vision_config", {"num_tokens": 575}, "vision_config.num_tokens"),
        ("vision_config", {"num_heads": 7}, "vision_config.num_heads"),
        ("fusion_config", {"layers": []}, "fusion_config.layers"),
        ("fusion_config", {"layers": [4, 4]}, "fusion_config.layers"),
        ("fusion_config", {"layers": [4, 32]}, "fusion_config.layers"),
        ("fusion_config", {"num_kv_heads": 3}, "fusion_config.num_kv_heads"),
    ],
)
def test_faults_in_a_section_are_named(section: str, change: dict[str, Any], field: str) -> None:
    raw = reference_config()
    raw[section] = raw[section] | change
    with pytest.raises(UnsupportedCheckpointError) as caught, torch.device("meta"):
        build_model(raw)
    assert caught.value.field == field


def test_a_missing_value_is_named() -> None:
    with pytest.raises(UnsupportedCheckpointError, match="gate_rank"):
        AutoGLMPhoneConfig.from_dict(without(reference_config(), "fusion_config", "gate_rank"))


def test_generation_config_decides_the_stop_ids() -> None:
    assert AutoGLMPhoneConfig.from_dict(reference_config(), {"eos_token_id": 7}).stop_token_ids == (7,)


def test_a_written_checkpoint_loads_and_is_reproducible(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_phone_weights(tmp_path / name, seed=seed, token_ids=IDS, stop_token_ids=[60, 61], vocab_size=64)
    first, again, other = ((tmp_path / n / "model.safetensors").read_bytes() for n in "abc")
    assert first == again != other
    model = load_checkpoint(tmp_path / "a", dtype=torch.float32)
    assert isinstance(model, AutoGLMPhoneModel)
    assert model.stop_token_ids == (60, 61)
    assert all(float(module.gate) == 1.0 for module in model.cross_attention)
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


def test_a_foreign_tensor_is_refused(tmp_path: Path) -> None:
    write_phone_weights(tmp_path, seed=0, token_ids=IDS, stop_token_ids=[60], vocab_size=64)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"gate_rank": 16', '"gate_rank": 17'))
    with pytest.raises(CorruptCheckpointError, match="time_gate"):
        load_checkpoint(tmp_path)


def test_random_weights_from_a_seed() -> None:
    raw = tiny_phone_config(IDS, [60], vocab_size=64)

    def build(seed: int) -> dict[str, torch.Tensor]:
        with torch.device("meta"):
            model = build_model(raw)
        materialise(model, torch.float32, torch.device("cpu"))
        return dict(initialise(model, seed).named_parameters())

    first, again, other = build(1), build(1), build(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])
    assert float(first["model.cross_attention.0.gate"]) == 0.0
    assert 0.015 < float(first["lm_head.weight"].std()) < 0.025
