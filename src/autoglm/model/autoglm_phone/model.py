"""The described layout: images enter through gated cross-attention in the decoder's deeper layers.

Tensors of a checkpoint, besides ``config.json`` (see :mod:`autoglm.model.autoglm_phone.config`):

- ``model.language_model.*``: the GLM decoder, named as in the published layout;
- ``model.visual.patch_embed.{weight,bias}`` (``[hidden, 3*14*14]``, or ``[hidden, stem channels]`` behind
  ``.stem.stages.N.{weight,bias}``), ``.embeddings.position_embedding.weight``,
  ``.pre_norm.weight``, ``.blocks.N.*`` (as in the published layout), ``.post_norm.weight``,
  ``.projector.{up,out}.{weight,bias}``;
- ``model.cross_attention.M.{norm,q_norm,k_norm,q_proj,k_proj,v_proj,o_proj}.weight`` and the scalar ``.gate``, module
  ``M`` in layer ``fusion_config.layers[M]``;
- ``model.time_gate.{text_proj,visual_proj,text_norm,visual_norm}.weight``, scalars ``.scale`` and ``.bias``;
- ``lm_head.weight``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from autoglm.model.attention import AttentionPlan
from autoglm.model.autoglm_phone.config import AutoGLMPhoneConfig
from autoglm.model.autoglm_phone.dual_stream import side_by_side, used_on_current_stream
from autoglm.model.autoglm_phone.fusion import GatedCrossAttention, VisualPlan, pack_features
from autoglm.model.autoglm_phone.time_gate import TimeGate
from autoglm.model.autoglm_phone.visibility import TurnSpan, visible_spans
from autoglm.model.autoglm_phone.vision import VisionTower
from autoglm.model.base import DecoderModel
from autoglm.model.context import ForwardContext, ImageFeatures
from autoglm.model.patches import encode_by_image
from autoglm.model.vision import Geometry, Grid
from autoglm.parallel.collectives import ALONE, Communicator


@dataclass(frozen=True, slots=True)
class TextStream:
    """Rows that have passed the layers before the first cross-attention: ``hidden [rows, hidden_size]``."""

    hidden: Tensor
    plan: AttentionPlan


class AutoGLMPhoneModel(DecoderModel):
    """``autoglm_phone`` with unset weights; load a checkpoint, or see :mod:`autoglm.model.initialise`."""

    layout: Literal["autoglm_phone"] = "autoglm_phone"
    image_in_sequence = False

    def __init__(self, config: AutoGLMPhoneConfig) -> None:
        text, fusion = config.text.decoder(), config.fusion
        modules = [GatedCrossAttention(fusion, text.hidden_size, text.rms_norm_eps) for _ in fusion.layers]
        super().__init__(
            text,
            {
                "visual": VisionTower(config.vision, text.hidden_size),
                "cross_attention": nn.ModuleList(modules),
                "time_gate": TimeGate(text.hidden_size, fusion.gate_rank, text.rms_norm_eps),
            },
        )
        self.config = config
        self._module_of = {layer: index for index, layer in enumerate(fusion.layers)}

    @property
    def visual(self) -> VisionTower:
        module = self.model["visual"]
        assert isinstance(module, VisionTower)
        return module

    @property
    def time_gate(self) -> TimeGate:
        module = self.model["time_gate"]
        assert isinstance(module, TimeGate)
        return module

    @property
    def cross_attention(self) -> list[GatedCrossAttention]:
        modules = self.model["cross_attention"]
        assert isinstance(modules, nn.ModuleList)
        return [module for module in modules if isinstance(module, GatedCrossAttention)]

    @property
    def visual_tokens(self) -> int:
        """Visual tokens of one image, whatever its size."""
        return self.config.vision.num_tokens

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        return self.config.stop_token_ids

    def visible_spans(self, token_ids: Sequence[int], image_starts: Sequence[int]) -> list[TurnSpan]:
        """The turns that see images; see :func:`autoglm.model.autoglm_phone.visibility.visible_spans`."""
        return visible_spans(token_ids, image_starts, self.config.turn_start_token_ids)

    def forward(self, hidden: Tensor, context: ForwardContext) -> Tensor:
        """All layers on ``[rows, hidden]``; rows outside ``context.visual`` never meet an image."""
        return self.join(self.text_stream(hidden, context), context)

    def text_stream(self, hidden: Tensor, context: ForwardContext) -> TextStream:
        """The layers before the first cross-attention; ``context.visual`` is not read."""
        plan = self.decoder.plan(context)
        first = self.config.fusion.layers[0]
        return TextStream(self.decoder.run_layers(hidden, context, plan, 0, first), plan)

    def join(self, text: TextStream, context: ForwardContext) -> Tensor:
        """The time gate and the deeper layers, which read the images of ``context.visual``."""
        decoder, modules = self.decoder, self.cross_attention
        visual = VisualPlan.of(text.hidden, context.visual, self.time_gate)

        def read_image(layer: int, hidden: Tensor) -> Tensor:
            index = self._module_of.get(layer)
            if visual is None or index is None:
                return hidden
            out: Tensor = modules[index](hidden, visual, index)
            return out

        first, last = self.config.fusion.layers[0], len(decoder.layers)
        return decoder.run_layers(text.hidden, context, text.plan, first, last, read_image)

    def encode_images(self, pixels: Sequence[Tensor], grids: Sequence[Grid]) -> list[ImageFeatures]:
        """Everything that depends on an image alone; see :func:`fusion.pack_features` for its parts.

        One image at a time, so that an image's features never depend on what was encoded beside it.

        Args:
            pixels: per image, normalised ``[3, rows*patch, columns*patch]``.
            grids: per image, patches (1, rows, columns).
        """
        return [self._absorb(visual) for visual in self.encode_visual(pixels, grids)]

    def encode_visual(self, pixels: Sequence[Tensor], grids: Sequence[Grid]) -> list[Tensor]:
        """Visual tokens of each image, ``[tokens, hidden_size]``; with several ranks, each gives all and gets all."""

        def encode(images: Sequence[int], comm: Communicator = ALONE) -> list[Tensor]:
            return [self.visual(pixels[i].to(self.device, self.dtype), grids[i][1:], comm) for i in images]

        if self.vision_parallel == "data":
            counts = [self.visual_tokens] * len(grids)
            return encode_by_image(encode, counts, counts, self._no_tokens(), self.vision_comm)
        return encode(range(len(grids)), self.vision_comm)

    def image_geometry(self, grid: Grid) -> Geometry:
        """What encoding needs to know of an image's size."""
        return self.visual.geometry(grid[1:], self.device)

    def encode_image(self, pixels: Tensor, grid: Grid, geometry: Geometry) -> ImageFeatures:
        """One image on one rank; touches no host memory if ``pixels`` are on the device and of the model's dtype."""
        return self._absorb(self.visual(pixels, grid[1:], geometry=geometry))

    def encode_dual(
        self,
        pixels: Sequence[Tensor],
        grids: Sequence[Grid],
        hidden: Tensor,
        context: ForwardContext,
        *,
        parallel: bool = True,
    ) -> tuple[list[ImageFeatures], TextStream]:
        """Image stream and text stream side by side; then put the features into ``context.visual`` and ``join``.

        ``parallel=False`` runs them one after the other, with the same result.
        """
        return self.run_streams(partial(self.encode_images, pixels, grids), hidden, context, parallel=parallel)

    def run_streams(
        self,
        image: Callable[[], list[ImageFeatures]],
        hidden: Tensor,
        context: ForwardContext,
        *,
        parallel: bool = True,
    ) -> tuple[list[ImageFeatures], TextStream]:
        """As :meth:`encode_dual`, with any job that gives the features."""
        text = partial(self.text_stream, hidden, context)
        features, stream = side_by_side(image, text, self.device, parallel=parallel)
        for one in features:
            for tensor in one.tensors:
                used_on_current_stream(tensor)
        return features, stream

    def rope_positions(self, num_tokens: int, images: Sequence[tuple[int, Grid]]) -> tuple[Tensor, int]:  # noqa: ARG002
        """Plain sequential positions, int64 ``[3, num_tokens]``, and delta 0."""
        return torch.arange(num_tokens).expand(3, num_tokens), 0

    def checkpoint_transforms(self) -> Mapping[str, tuple[int, ...]]:
        """No tensor is stored in another axis order than it is used."""
        return {}

    def _absorb(self, visual: Tensor) -> ImageFeatures:
        pairs = [module.visual_kv(visual) for module in self.cross_attention]
        return pack_features(pairs, self.time_gate.visual_keys(visual))
