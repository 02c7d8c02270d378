"""The published layout: image embeddings take the place of placeholder tokens in one causal sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from autoglm.model.base import DecoderModel
from autoglm.model.config import Glm4vConfig
from autoglm.model.context import ForwardContext, ImageFeatures
from autoglm.model.rope import rope_positions
from autoglm.model.vision import Grid, VisionTower


class Glm4vModel(DecoderModel):
    """``glm4v`` with random weights until a checkpoint is loaded (see :mod:`autoglm.model.loading`)."""

    layout: Literal["glm4v"] = "glm4v"
    image_in_sequence = True

    def __init__(self, config: Glm4vConfig) -> None:
        super().__init__(config.text, {"visual": VisionTower(config.vision)})
        self.config = config
        if config.tie_word_embeddings:
            self.lm_head.weight = self.decoder.embed_tokens.weight

    @property
    def visual(self) -> VisionTower:
        module = self.model["visual"]
        assert isinstance(module, VisionTower)
        return module

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        return self.config.stop_token_ids

    def visible_spans(
        self,
        token_ids: Sequence[int],  # noqa: ARG002 - the other layout reads them
        image_starts: Sequence[int],  # noqa: ARG002
    ) -> list[tuple[int, int | None, tuple[int, ...]]]:
        """No cross-attention here: nothing to see."""
        return []

    def forward(self, hidden: Tensor, context: ForwardContext) -> Tensor:
        """All layers on ``[rows, hidden]``; see :meth:`compute_logits`."""
        out: Tensor = self.decoder(hidden, context)
        return out

    def encode_images(self, pixels: Sequence[Tensor], grids: Sequence[Grid]) -> list[ImageFeatures]:
        """One batch through the tower; ``pixels[i]``: ``[t*h*w, patch_values]`` in processor order."""
        parts = [p.to(self.device, self.dtype) for p in pixels]
        rows = torch.cat(parts) if len(parts) > 1 else parts[0]  # joining one alone would copy 63 MB of a screenshot
        merged = self.visual(rows, list(grids))
        counts = [t * h * w // self.config.vision.merge_size**2 for t, h, w in grids]
        return [ImageFeatures((part,)) for part in merged.split(counts)]

    def rope_positions(self, num_tokens: int, images: Sequence[tuple[int, Grid]]) -> tuple[Tensor, int]:
        """See :func:`autoglm.model.rope.rope_positions`."""
        return rope_positions(num_tokens, images, self.config.vision.merge_size)

    def checkpoint_transforms(self) -> Mapping[str, tuple[int, ...]]:
        """Axis order in which a convolution's weight becomes the matrix used here."""
        return {
            "model.visual.patch_embed.proj.weight": (0, 1, 2, 3, 4),
            "model.visual.downsample.weight": (0, 2, 3, 1),
        }
