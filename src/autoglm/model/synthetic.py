"""Random-weight checkpoints in the published layout: what tests, demos and benchmarks run where no weights are.

Shapes keep the published model's ratios: partial rotary 0.5, three M-RoPE sections, two KV heads, QKV bias,
patch 14, merge 2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from autoglm.model.config import Glm4vConfig
from autoglm.model.glm4v import Glm4vModel
from autoglm.model.loading import INDEX, SINGLE, checkpoint_targets


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a synthetic model: decoder, then vision tower."""

    hidden: int
    layers: int
    heads: int
    head_dim: int
    ffn: int
    vision_hidden: int
    vision_depth: int
    vision_heads: int
    merger: int


SIZES = {
    "tiny": Shape(256, 4, 4, 64, 640, 128, 2, 2, 512),
    "small": Shape(768, 12, 6, 128, 2560, 384, 6, 6, 2304),
    "mid": Shape(1536, 14, 12, 128, 5120, 768, 8, 12, 4096),
}
"""8 M, 119 M and 507 M parameters with a vocabulary of 8192."""


def synthetic_config(
    size: str,
    token_ids: Mapping[str, int],
    stop_token_ids: Sequence[int],
    *,
    vocab_size: int = 8192,
    context: int = 32768,
) -> dict[str, Any]:
    """A ``config.json`` of the published layout."""
    shape = SIZES[size]
    text = _text_section(shape, stop_token_ids, vocab_size, context)
    return {
        "model_type": "glm4v",
        "architectures": ["Glm4vForConditionalGeneration"],
        "dtype": "bfloat16",
        "text_config": text,
        "vision_config": _vision_section(shape),
        "image_token_id": token_ids["<|image|>"],
        "video_token_id": token_ids["<|video|>"],
        "image_start_token_id": token_ids["<|begin_of_image|>"],
        "image_end_token_id": token_ids["<|end_of_image|>"],
        "video_start_token_id": token_ids["<|begin_of_video|>"],
        "video_end_token_id": token_ids["<|end_of_video|>"],
        "tie_word_embeddings": False,
    }


def _text_section(s: Shape, stop_token_ids: Sequence[int], vocab_size: int, context: int) -> dict[str, Any]:
    pairs = s.head_dim // 4
    side = (pairs - pairs // 4) // 2
    return {
        "model_type": "glm4v_text",
        "vocab_size": vocab_size,
        "hidden_size": s.hidden,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        "num_key_value_heads": 2,
        "head_dim": s.head_dim,
        "intermediate_size": s.ffn,
        "max_position_embeddings": context,
        "rms_norm_eps": 1e-5,
        "attention_bias": True,
        "hidden_act": "silu",
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
            "mrope_section": [pairs - 2 * side, side, side],
        },
        "pad_token_id": stop_token_ids[0],
        "eos_token_id": list(stop_token_ids),
    }


def _vision_section(s: Shape) -> dict[str, Any]:
    return {
        "model_type": "glm4v_vision",
        "hidden_size": s.vision_hidden,
        "depth": s.vision_depth,
        "num_heads": s.vision_heads,
        "out_hidden_size": s.hidden,
        "intermediate_size": s.merger,
        "image_size": 336,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
    }


def write_weights(
    directory: Path,
    config: Mapping[str, Any],
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.bfloat16,
    max_shard_bytes: int | None = None,
) -> None:
    """Write config, generation config and (sharded) weights; the bytes depend on the arguments alone."""
    write_configs(directory, config, config["text_config"]["eos_token_id"])
    with torch.device("meta"):
        model = Glm4vModel(Glm4vConfig.from_dict(config))
    tensors = random_tensors(model, seed, dtype)
    _save(tensors, directory, max_shard_bytes)


def write_configs(directory: Path, config: Mapping[str, Any], stop_token_ids: Sequence[int]) -> None:
    """Make the folder, ``config.json`` and a greedy ``generation_config.json`` that pads with the first stop id."""
    directory.mkdir(parents=True, exist_ok=True)
    generation = {"do_sample": False, "eos_token_id": list(stop_token_ids), "pad_token_id": stop_token_ids[0]}
    _write_json(directory / "config.json", config)
    _write_json(directory / "generation_config.json", generation)


def random_tensors(model: Glm4vModel, seed: int, dtype: torch.dtype, std: float = 0.02) -> dict[str, Tensor]:
    """Checkpoint tensors of a meta model: normal weights, norms at one, biases small but not zero."""
    generator = torch.Generator().manual_seed(seed)
    transforms = model.checkpoint_transforms()
    tensors: dict[str, Tensor] = {}
    for name, target in sorted(checkpoint_targets(model).items()):
        parameter = model.get_parameter(target.parameter)
        shape = (target.rows, *parameter.shape[1:])
        if "norm" in name and name.endswith("weight"):
            tensors[name] = torch.ones(shape, dtype=dtype)
            continue
        value = torch.randn(shape, generator=generator) * std
        if name in transforms:
            value = _as_convolution(value, name, transforms[name], model)
        tensors[name] = value.to(dtype)
    return tensors


def _as_convolution(matrix: Tensor, name: str, order: tuple[int, ...], model: Glm4vModel) -> Tensor:
    """Undo the loader's reading of a convolution weight, so that the file has the published shape."""
    v = model.config.vision
    if name.endswith("downsample.weight"):
        shape: tuple[int, ...] = (v.merge_size, v.merge_size, v.hidden_size)
    else:
        shape = (v.in_channels, v.temporal_patch_size, v.patch_size, v.patch_size)
    inverse = [order.index(i) for i in range(len(order))]
    return matrix.view(-1, *shape).permute(inverse).contiguous()


def _save(tensors: dict[str, Tensor], directory: Path, max_shard_bytes: int | None) -> None:
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if max_shard_bytes and shards[-1] and size + tensor.nbytes > max_shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    metadata = {"format": "pt"}
    if len(shards) == 1:
        save_file(shards[0], directory / SINGLE, metadata)
        return
    names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, directory / name, metadata)
    weight_map = {t: n for n, shard in zip(names, shards, strict=True) for t in shard}
    total = sum(t.nbytes for t in tensors.values())
    _write_json(directory / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _write_json(file: Path, value: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
