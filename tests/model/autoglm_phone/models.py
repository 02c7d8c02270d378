"""Very small models of the layout, and steps run on them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from autoglm.model.autoglm_phone import AutoGLMPhoneConfig, AutoGLMPhoneModel
from autoglm.model.autoglm_phone.config import FusionConfig, PhoneTextConfig, PhoneVisionConfig
from autoglm.model.context import ForwardContext, ImageFeatures, KVStore, SequenceSlice, VisualSpan
from autoglm.model.initialise import initialise

USER, IMAGE, STOP = 60, 61, 62
GRIDS = [(1, 4, 4), (1, 8, 2), (1, 2, 8)]
CPU = torch.device("cpu")
TINY = AutoGLMPhoneConfig(
    text=PhoneTextConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=48,
        max_position_embeddings=256,
    ),
    vision=PhoneVisionConfig(hidden_size=32, depth=2, num_heads=2, intermediate_size=40, patch_size=2, num_tokens=16),
    fusion=FusionConfig(layers=(1, 3), num_heads=4, num_kv_heads=2, head_dim=8, gate_rank=6),
    image_token_id=IMAGE,
    turn_start_token_ids=(USER,),
    stop_token_ids=(STOP,),
)


def tiny_model(seed: int = 0, gate: float | None = 0.7) -> AutoGLMPhoneModel:
    """Random weights, norms and biases included, so that each matters; ``gate`` ``None``: as initialised."""
    model = AutoGLMPhoneModel(TINY).eval().requires_grad_(False)
    initialise(model, seed, std=0.2)
    generator = torch.Generator().manual_seed(seed + 1)
    for name, parameter in sorted(model.named_parameters()):
        if "norm" in name or name.endswith(".scale"):
            parameter.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(".bias"):
            parameter.uniform_(-0.3, 0.3, generator=generator)
        elif name.endswith(".gate") and gate is not None:
            parameter.fill_(gate)
    return model


def random_pixels(count: int, seed: int = 0) -> tuple[list[Tensor], list[tuple[int, int, int]]]:
    """``count`` images that take turns through the grids."""
    generator = torch.Generator().manual_seed(seed)
    grids = [GRIDS[i % len(GRIDS)] for i in range(count)]
    return [torch.randn(3, h * 2, w * 2, generator=generator) for _, h, w in grids], grids


@dataclass
class Case:
    """One sequence: its ids, its images in order of their placeholders, and its slots."""

    ids: list[int]
    features: list[ImageFeatures]
    slots: Tensor
    contiguous: bool = False
    outs: list[Tensor] = field(default_factory=list)

    def spans(self, model: AutoGLMPhoneModel, begin: int, end: int, row: int) -> list[VisualSpan]:
        starts = [i for i, token in enumerate(self.ids) if token == IMAGE] if self.features else []
        found = []
        for start, stop, seen in model.visible_spans(self.ids, starts):
            low, high = max(start, begin), end if stop is None else min(stop, end)
            if low < high:
                images = tuple(self.features[i] for i in seen)
                found.append(VisualSpan(row + low - begin, row + high - begin, images))
        return found


def step_context(model: AutoGLMPhoneModel, parts: list[tuple[Case, int, int]], kv: KVStore) -> ForwardContext:
    """Rows ``[begin, end)`` of each case, side by side."""
    context = ForwardContext(torch.empty(3, 0), torch.empty(0), [], kv)
    positions, slots, row = [], [], 0
    for case, begin, end in parts:
        run = int(case.slots[0]) if case.contiguous else None
        context.sequences.append(SequenceSlice(row, end - begin, end, case.slots[:end], run))
        context.visual.extend(case.spans(model, begin, end, row))
        positions.append(torch.arange(begin, end).expand(3, -1))
        slots.append(case.slots[begin:end])
        row += end - begin
    context.positions, context.new_slots = torch.cat(positions, 1), torch.cat(slots)
    return context


@torch.inference_mode()
def run(model: AutoGLMPhoneModel, cases: list[Case], chunk: int, kv: KVStore) -> list[Tensor]:
    """``[tokens, vocab]`` of each case; all share every step, each advancing by ``chunk`` tokens."""
    for case in cases:
        case.outs.clear()
    for begin in range(0, max(len(c.ids) for c in cases), chunk):
        parts = [(c, begin, min(begin + chunk, len(c.ids))) for c in cases if begin < len(c.ids)]
        ids = [token for c, first, last in parts for token in c.ids[first:last]]
        hidden = model.forward(model.embed_tokens(torch.tensor(ids)), step_context(model, parts, kv))
        for (case, _, _), rows in zip(parts, hidden.split([b - a for _, a, b in parts]), strict=True):
            case.outs.append(model.compute_logits(rows))
    return [torch.cat(case.outs) for case in cases]
