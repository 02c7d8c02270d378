"""From trained state to the checkpoint folder that the package ships."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from autoglm.model.autoglm_phone.model import AutoGLMPhoneModel
from autoglm.model.loading import SINGLE, checkpoint_targets
from autoglm.prompt import Tokenizer
from training.shape import STOPS, TURN_STARTS, config_json
from training.stem import NormedStem

PROMPT_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "preprocessor_config.json")


def checkpoint_tensors(model: AutoGLMPhoneModel) -> dict[str, Tensor]:
    """Tensors by their names in a checkpoint, fp16; the stem's norms are folded into its convolutions."""
    stem = model.visual.stem
    folded: dict[str, Tensor] = {}
    if isinstance(stem, NormedStem):
        folded = {f"model.visual.stem.{name}": tensor for name, tensor in stem.folded().items()}
    tensors = {}
    for name, target in checkpoint_targets(model).items():
        if folded and ".stem." in name:
            continue
        parameter = model.get_parameter(target.parameter).detach()
        tensors[name] = parameter if parameter.dim() == 0 else parameter.narrow(0, target.start, target.rows)
    return {name: t.to(torch.float16).clone().contiguous() for name, t in {**tensors, **folded}.items()}


def export(model: AutoGLMPhoneModel, tokens: Path, out: Path) -> None:
    """Write config, generation config, tokenizer files and weights into ``out``; other files there stay."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_directory(tokens)
    ids = {name: tokenizer.token_id(name) or 0 for name in (*TURN_STARTS, *STOPS, "<|image|>")}
    config = config_json(ids, tokenizer.vocab_size)
    stops = {"eos_token_id": config["eos_token_id"], "pad_token_id": config["pad_token_id"]}
    for name, value in (("config.json", config), ("generation_config.json", stops)):
        (out / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    for name in PROMPT_FILES:
        shutil.copyfile(tokens / name, out / name)
    save_file(checkpoint_tensors(model), out / SINGLE, {"format": "pt"})
