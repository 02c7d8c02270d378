"""The published layout: image embeddings take the place of placeholder tokens in one causal sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor

from autoglm.model.base import DecoderModel
from autoglm.model.config import Glm4vConfig
from autoglm.model.context import ForwardContext, ImageFeatures
from autoglm.model.patches import encode_by_image, joined
from autoglm.model.rope import rope_positions
from autoglm.model.vision import Geometry, Grid, VisionTower
from autoglm.parallel.collectives import ALONE, Communicator


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
        return [ImageFeatures((part,)) for part in self.encode_visual(pixels, grids)]

    def encode_visual(self, pixels: Sequence[Tensor], grids: Sequence[Grid]) -> list[Tensor]:
        """Visual tokens of each image, ``[tokens, hidden_size]``; with several ranks, each gives all and gets all."""
        patches = [t * h * w for t, h, w in grids]
        counts = [count // self.config.vision.merge_size**2 for count in patches]

        def encode(images: Sequence[int], comm: Communicator = ALONE) -> list[Tensor]:
            rows = joined([pixels[i].to(self.device, self.dtype) for i in images])
            merged = self.visual(rows, [grids[i] for i in images], comm)
            return list(merged.split([counts[i] for i in images]))

        if self.vision_parallel == "data":
            return encode_by_image(encode, patches, counts, self._no_tokens(), self.vision_comm)
        return encode(range(len(grids)), self.vision_comm)

    def image_geometry(self, grid: Grid) -> Geometry:
        """What encoding needs to know of an image's size."""
        return self.visual.geometry([grid], self.device)

    def encode_image(self, pixels: Tensor, grid: Grid, geometry: Geometry) -> ImageFeatures:
        """One image on one rank; touches no host memory if ``pixels`` are on the device and of the model's dtype."""
        return ImageFeatures((self.visual(pixels, [grid], geometry=geometry),))

    def rope_positions(self, num_tokens: int, images: Sequence[tuple[int, Grid]]) -> tuple[Tensor, int]:
        """See :func:`autoglm.model.rope.rope_positions`."""
        return rope_positions(num_tokens, images, self.config.vision.merge_size)

    def checkpoint_transforms(self) -> Mapping[str, tuple[int, ...]]:
        """Axis order in which a convolution's weight becomes the matrix used here."""
        return {
            "model.visual.patch_embed.proj.weight": (0, 1, 2, 3, 4),
            "model.visual.downsample.weight": (0, 2, 3, 1),
        }
