"""How many multiplications and additions a prompt needs, part by part; what a mask hides is not counted."""

from __future__ import annotations

from dataclasses import dataclass

from autoglm.model.glm4v import Glm4vModel


@dataclass(frozen=True, slots=True)
class Prompt:
    """Tokens that are computed, those reused before them, and patches of its new image."""

    rows: int
    reused: int
    patches: int


def operations(model: Glm4vModel, prompt: Prompt) -> dict[str, float]:
    """By part, two a multiply-add. Of the last layer only its keys and values are computed for all rows."""
    text, rows, patches = model.text_config, prompt.rows, prompt.patches
    vision = model.config.vision
    hidden, q, kv = text.hidden_size, text.q_size, text.kv_size
    whole = text.num_layers - 1
    seen = rows * prompt.reused + rows * (rows + 1) / 2  # keys that the rows see together
    last = prompt.reused + rows
    width, out = vision.hidden_size, vision.out_hidden_size
    merged = patches / vision.merge_size**2
    merger = width * vision.merge_size**2 * out + out * out + 3 * out * vision.merger_size
    products = {
        "decoder qkv": (whole * rows * (q + 2 * kv) + rows * 2 * kv + q) * hidden,
        "decoder attend": 2 * q * (whole * seen + last),
        "decoder out": (whole * rows + 1) * q * hidden,
        "decoder gate_up": (whole * rows + 1) * hidden * 2 * text.intermediate_size,
        "decoder down": (whole * rows + 1) * text.intermediate_size * hidden,
        "head": hidden * text.vocab_size,
        "tower qkv": vision.depth * patches * width * 3 * width,
        "tower attend": vision.depth * patches * patches * 2 * width,
        "tower out": vision.depth * patches * width * width,
        "tower gate_up": vision.depth * patches * width * 2 * out,
        "tower down": vision.depth * patches * out * width,
        "patch embedding": patches * vision.patch_values * width,
        "merger": merged * merger,
    }
    return {part: 2.0 * count for part, count in products.items()}
