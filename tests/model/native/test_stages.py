"""The kernels over stages of a pipeline give what they give over the whole model, bit for bit, wherever it is cut."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from autoglm.model.autoglm_phone import AutoGLMPhoneModel
from autoglm.model.context import ImageFeatures
from autoglm.model.native.decoder import NO_IMAGES, ImageList
from autoglm.model.native.library import level
from autoglm.model.quantized.linear import quantize
from autoglm.model.registry import Model
from autoglm.model.stage import StageModel, cut
from autoglm.parallel.pipeline.partition import Partition, Stage
from tests.model.autoglm_phone.models import random_pixels
from tests.model.native.models import glm_model, phone_model
from tests.model.native.test_decoder import Native

ROWS, STEPS = 3, 3
CUTS = [(0, 1), (0, 3), (0, 2, 3), (0, 1, 2, 3)]
"""First layers of the stages. ``autoglm_phone`` reads images in layers 1 and 3, so some stages only pass queries on."""


class Part:
    """A stage on its own copy of the weights, or the whole model: its kernels, and what it keeps of the images."""

    def __init__(self, whole: Model, stage: Stage | None, threads: int, scheme: str | None = None) -> None:
        model = copy.deepcopy(whole)
        visual: list[Tensor] = []
        features: list[ImageFeatures] = []
        if isinstance(whole, AutoGLMPhoneModel):
            pixels, grids = random_pixels(2)
            features = whole.encode_images(pixels, grids)
            visual = whole.encode_visual(pixels, grids)
        if stage is not None:
            cut(model, stage)
            part = StageModel(model, stage)
            features = [part.absorb(tokens) for tokens in visual] if part.reads_images else []
        if scheme is not None:
            quantize(model, scheme)
        self.native = Native(model, ROWS, threads, level(), whole.dtype, integer_products=scheme is not None)
        assert self.native.decoder.reads_images == bool(features)
        # The first row sees nothing, the second one image, the third two.
        self.images = [ImageList(features[:n]) if n and features else NO_IMAGES for n in range(ROWS)]

    def run(self, at: int, before: Tensor | None, wanted: list[bool]) -> Tensor:
        for row in range(ROWS):
            where, blocks = (at, at + row, 2 * at), self.native.blocks[row]
            self.native.decoder.put(7 * at + row, where, at + 1, blocks, self.images[row], wanted=wanted[row])
        return self.native.decoder.run(before)


@pytest.mark.parametrize("bounds", CUTS)
@pytest.mark.parametrize("layout", [glm_model, phone_model])
@pytest.mark.parametrize(("dtype", "threads"), [(torch.float32, 2), (torch.bfloat16, 1)])
def test_stages_give_the_bits_of_the_whole(
    layout: Callable[[], Model], bounds: tuple[int, ...], dtype: torch.dtype, threads: int
) -> None:
    check(layout().to(dtype), bounds, threads)


@pytest.mark.parametrize("scheme", ["int8", "int4"])
@pytest.mark.parametrize("layout", [glm_model, phone_model])
def test_packed_weights_and_whole_number_products(layout: Callable[[], Model], scheme: str) -> None:
    check(layout(), CUTS[-1], 1, scheme)


def check(model: Model, bounds: tuple[int, ...], threads: int, scheme: str | None = None) -> None:
    whole, partition = Part(model, None, threads, scheme), Partition(bounds, 4, 0)
    stages = [Part(model, partition.stage(index), threads, scheme) for index in range(len(bounds))]
    for at in range(STEPS):
        wanted = [True, at != 1, True]
        expected = whole.run(at, None, wanted)
        before = None
        for stage in stages:
            before = stage.run(at, before, wanted)
        assert before is not None
        assert before.shape == (sum(wanted), model.vocab_size)
        assert torch.equal(before, expected)
        assert float(expected.std()) > 0.01  # they say something
