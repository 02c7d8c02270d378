"""Engines of random weights made on the device, at the 9 B models' shapes or tiny; and what a step costs at least."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import torch
from tokenizers import Tokenizer
from torch import Tensor

from autoglm.engine import Engine, EngineConfig
from autoglm.model.autoglm_phone import AutoGLMPhoneModel
from autoglm.model.autoglm_phone.config import reference_config
from autoglm.model.autoglm_phone.synthetic import tiny_phone_config
from autoglm.model.config import Glm4vConfig
from autoglm.model.initialise import initialise, materialise
from autoglm.model.loading import read_json
from autoglm.model.registry import Model, build_model
from autoglm.model.synthetic import synthetic_config, write_configs
from autoglm.prompt import PromptBuilder
from autoglm.prompt.synthetic import write_tokenizer
from autoglm.synthetic import STOP_TOKENS

LAYOUTS = ("glm4v", "autoglm_phone")
_TEXT = {
    "vocab_size": 151552,
    "hidden_size": 4096,
    "num_hidden_layers": 40,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "intermediate_size": 13696,
}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "mrope_section": [8, 12, 12]}
_VISION = {"hidden_size": 1536, "depth": 24, "num_heads": 12, "out_hidden_size": 4096, "intermediate_size": 13696}


def write_prompt_parts(folder: Path, source: Path | None) -> dict[str, int]:
    """Tokenizer, template and image options: a synthetic checkpoint's, or made now. Ids of the named tokens."""
    if source is None:
        return write_tokenizer(folder)
    for file in source.iterdir():
        if file.is_file() and "safetensors" not in file.name:
            shutil.copy(file, folder)
    return dict(Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab(with_added_tokens=True))


def write_model_config(folder: Path, layout: str, ids: dict[str, int], *, smoke: bool) -> None:
    """The sizes of the 9 B model, or tiny ones; there are no weights."""
    stops = [ids[name] for name in STOP_TOKENS]
    if layout == "glm4v":
        raw = synthetic_config("tiny", ids, stops)
        if not smoke:
            raw["text_config"] |= _TEXT | {"rope_parameters": _ROPE}
            raw["vision_config"] |= _VISION
    else:
        raw = tiny_phone_config(ids, stops)
        if not smoke:
            raw |= {name: reference_config()[name] for name in ("text_config", "vision_config", "fusion_config")}
    write_configs(folder, raw, stops)


def random_model(folder: Path, dtype: torch.dtype, device: torch.device) -> Model:
    """The model of the folder, filled on the device."""
    with torch.device("meta"):
        model = build_model(read_json(folder / "config.json"), read_json(folder / "generation_config.json"))
    materialise(model, dtype, device)
    return initialise(model)


def engine_of(model: Model, folder: Path, config: EngineConfig) -> Engine:
    """An engine that reuses nothing from one question to the next, so that each repetition does all the work."""
    cold = msgspec.structs.replace(
        config, prefix_caching=False, visual_cache_bytes=0, image_cache_bytes=0, idle_prefill=False, speculation=False
    )
    return Engine(model, PromptBuilder.from_checkpoint(folder, model.layout, image_cache_bytes=0), cold)


def bytes_of_a_step(model: Model, rows: int, tokens: int) -> int:
    """What a decode step reads at least: the layers and the head once, and each row's keys and values.

    Args:
        tokens: KV length of each row. Of the described layout, one image's cross-attention keys and values, too.
    """
    tensors: list[Tensor] = [*model.decoder.layers.parameters(), *model.lm_head.parameters()]
    tensors += [*model.decoder.layers.buffers(), *model.lm_head.buffers()]
    each = tokens * model.kv_spec.bytes_per_token
    if isinstance(model, AutoGLMPhoneModel):
        for module in model.cross_attention:
            tensors += [*module.q_proj.parameters(), *module.o_proj.parameters()]
        fusion = model.config.fusion
        size = fusion.num_kv_heads * fusion.head_dim * model.kv_spec.dtype.itemsize
        each += 2 * len(fusion.layers) * model.visual_tokens * size
    return sum(t.nbytes for t in tensors) + rows * each


def operations_of_a_prompt(model: Model, tokens: int, patches: int) -> float:
    """Floating point operations of encoding one image and prefilling a prompt: products of weights, and scores.

    The head takes one row, and an embedding nothing; what norms and rotations take is left out.
    """
    text, vision = model.decoder.config, model.config.vision
    layers = sum(p.numel() for p in model.decoder.layers.parameters())
    towers = sum(p.numel() for name, p in model.named_parameters() if ".visual." in name and ".merger." not in name)
    total = 2.0 * layers * tokens + 2.0 * towers * patches + 2.0 * sum(p.numel() for p in model.lm_head.parameters())
    total += 4.0 * len(model.decoder.layers) * text.num_heads * text.head_dim * tokens * tokens / 2
    total += 4.0 * vision.depth * vision.hidden_size * patches * patches
    if isinstance(model.config, Glm4vConfig):
        merger = sum(p.numel() for name, p in model.named_parameters() if ".merger." in name)
        total += 2.0 * merger * patches / model.config.vision.merge_size**2
    return total
