"""What a model's parts cost on this machine, from a short run of one layer of each kind with made-up weights.

All layers of a kind cost the same, so nothing is loaded: one is made, timed and dropped. Large parts are timed in a
smaller size where their time is a multiple of it: rows of a prompt, rows of the head, blocks of the vision tower.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from autoglm.model.attention import AttentionPlan
from autoglm.model.autoglm_phone import AutoGLMPhoneModel
from autoglm.model.autoglm_phone.fusion import GatedCrossAttention, VisualPlan, pack_features
from autoglm.model.context import ForwardContext, ImageFeatures, KVStore, SequenceSlice, VisualSpan
from autoglm.model.decoder import DecoderLayer
from autoglm.model.registry import Model
from autoglm.model.stage import vision_before
from autoglm.model.vision import VisionBlocks
from autoglm.parallel.pipeline.costs import Costs, fastest
from autoglm.parallel.pipeline.microbatch import RowCost

PROMPT, ANSWER = 512, 64
"""Tokens of the piece of work that is weighed: a prompt with one screen, and its answer, decoded alone."""
_ROWS, _FAR = 64, 1024
_VOCABULARY = 8192
_PATCHES = (32, 20)
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of the parts for the piece of work, and of a token in one layer."""

    costs: Costs
    row: RowCost


@torch.inference_mode()
def measure(model: Model, dtype: torch.dtype, device: torch.device) -> Measured:
    """Time the parts of a model that stands on the meta device, whole."""
    probe = _Probe(model, dtype, device)
    near, far, decode = probe.layer(_ROWS, _ROWS), probe.layer(_ROWS, _FAR), probe.layer(1, PROMPT)
    row = _row_cost(near, far)
    plain = row.time(0, PROMPT) + ANSWER * decode
    layers = [plain] * len(model.decoder.layers)
    if isinstance(model, AutoGLMPhoneModel):
        fusion = probe.cross_attention(_ROWS) * PROMPT / _ROWS + ANSWER * probe.cross_attention(1)
        for layer in model.config.fusion.layers:
            layers[layer] += fusion
    costs = Costs(
        tuple(layers),
        head=(1 + ANSWER) * probe.head(),  # the prompt's last row, then each token's
        vision=probe.vision(),
        vision_before=vision_before(model),
    )
    return Measured(costs, row)


def estimate(model: Model) -> RowCost:
    """Of a token in one layer by operations, where nothing is measured."""
    text = model.text_config
    weights = text.hidden_size * (2 * text.q_size + 2 * text.kv_size + 3 * text.intermediate_size)
    return RowCost(2.0 * weights, 4.0 * text.q_size)


def _row_cost(near: float, far: float) -> RowCost:
    """From the times of the same rows at the start of a context and at the end of a long one."""
    pairs = [RowCost(0.0, 1.0).time(length - _ROWS, _ROWS) for length in (_ROWS, _FAR)]
    pair = max(0.0, (far - near) / (pairs[1] - pairs[0]))
    return RowCost(max(1e-9, near - pair * pairs[0]) / _ROWS, pair)


class _Probe:
    def __init__(self, model: Model, dtype: torch.dtype, device: torch.device) -> None:
        self._model, self._dtype, self._device = model, dtype, device
        self._hidden = model.text_config.hidden_size
        self._layer = self._real(next(m for m in model.decoder.layers if isinstance(m, DecoderLayer)))

    def layer(self, rows: int, length: int) -> float:
        """Seconds of one layer for ``rows`` new tokens that end a context of ``length``."""
        layer, rope = self._layer, self._model.decoder.rope
        spec = replace(self._model.kv_spec, num_layers=1, dtype=self._dtype)
        kv = KVStore(spec, length, self._device)
        kv.keys.normal_()
        kv.values.normal_()
        slots = torch.arange(length, device=self._device)
        context = ForwardContext(
            slots[length - rows :].expand(3, -1),
            slots[length - rows :],
            [SequenceSlice(0, rows, length, slots, 0)],
            kv,
        )
        plan = AttentionPlan.of(context, rope.to(self._device).rotations(context.positions))
        x = self._rows(rows)
        return fastest(lambda: layer.feed_forward(layer.attention(x, 0, rope, context, plan)))

    def cross_attention(self, rows: int) -> float:
        """Seconds of one module for ``rows`` that see one image."""
        model = self._model
        assert isinstance(model, AutoGLMPhoneModel)
        module, gate = self._real(model.cross_attention[0]), self._real(model.time_gate)
        assert isinstance(module, GatedCrossAttention)
        visual = self._rows(model.visual_tokens)
        features = pack_features([module.visual_kv(visual)], gate.visual_keys(visual))
        x = self._rows(rows)
        plan = VisualPlan.of(x, [VisualSpan(0, rows, (ImageFeatures(features.tensors),))], gate)
        assert plan is not None  # the span is not empty
        return fastest(lambda: module(x, plan, 0))

    def head(self) -> float:
        """Seconds of one row of logits."""
        vocab = self._model.vocab_size
        rows = min(vocab, _VOCABULARY)
        head = nn.Linear(self._hidden, rows, bias=False, device=self._device, dtype=self._dtype)
        x = self._rows(1)
        return fastest(lambda: head(x)) * vocab / rows

    def vision(self) -> float:
        """Seconds of one image of a phone's screen."""
        blocks = self._model.visual.blocks
        first, second = self._tower(1), self._tower(2) if len(blocks) > 1 else 0.0
        return first + max(0.0, second - first) * (len(blocks) - 1)

    def _tower(self, depth: int) -> float:
        model = self._model
        if isinstance(model, AutoGLMPhoneModel):
            config = model.config.vision
            phone = self._real(model.visual, depth)
            side = int(config.num_tokens**0.5)
            pixels = torch.randn(3, side * config.patch_size, side * config.patch_size, device=self._device)
            return fastest(lambda: phone(pixels.to(self._dtype), (side, side)), repeats=2)
        tower = self._real(model.visual, depth)
        height, width = _PATCHES
        patches = torch.randn(height * width, model.config.vision.patch_values, device=self._device)
        return fastest(lambda: tower(patches.to(self._dtype), [(1, height, width)]), repeats=2)

    def _rows(self, count: int) -> Tensor:
        return torch.randn(count, self._hidden, device=self._device).to(self._dtype)

    def _real(self, module: M, depth: int | None = None) -> M:
        """A copy with made-up weights, of a vision tower with its first ``depth`` blocks."""
        made = copy.deepcopy(module)
        if depth is not None:
            made.blocks = VisionBlocks(list(made.blocks)[:depth])  # type: ignore[arg-type]
        made = made.to_empty(device=self._device).to(self._dtype)
        for parameter in made.parameters():
            parameter.normal_(std=0.02)
        return made
