"""What is recorded, kept and refused; and image encoding through recordings, on the device at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
import torch
from torch import Tensor

from autoglm.model.config import Glm4vConfig
from autoglm.model.cuda.encoder import RecordedEncoder
from autoglm.model.cuda.recording import Eager, Recording, Recordings, RefusedError
from autoglm.model.initialise import initialise, materialise
from autoglm.model.registry import Model, build_model
from autoglm.model.vision import Grid
from tests.model.autoglm_phone.models import GRIDS, tiny_model
from tests.model.conftest import config_of

T = TypeVar("T")


class Sized:
    """Runs a step as it is, and says that a recording keeps ``nbytes``; below zero: refuses."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.made = 0

    def record(self, step: Callable[[], T]) -> Recording[T]:
        if self.nbytes < 0:
            raise RefusedError("an operation that graphs do not have")
        self.made += 1
        return Recording(step, self.nbytes, step)


def test_the_oldest_goes_where_that_is_allowed() -> None:
    recorder = Sized(40)
    kept: Recordings[int, int] = Recordings("step", recorder, 3, 100, evict=True)
    for key in (1, 2, 1, 3):
        assert kept.get(key, lambda: 7) is not None
    assert 1 in kept and 3 in kept and 2 not in kept  # noqa: PT018 - 100 bytes hold two
    assert kept.nbytes == 80
    assert recorder.made == 3
    assert not kept.refused


@pytest.mark.parametrize(("nbytes", "most", "word"), [(40, 8, "80 bytes"), (1, 2, "2 are kept"), (-1, 8, "operation")])
def test_too_much_is_refused_once_and_says_why(nbytes: int, most: int, word: str) -> None:
    recorder = Sized(nbytes)
    kept: Recordings[int, int] = Recordings("step", recorder, most, 100, evict=False)
    made = [kept.get(key, lambda: 7) for key in (1, 2, 3, 3)]
    assert made[2] is made[3] is None
    if nbytes >= 0:
        assert made[0] is not None
        assert made[0].replay() == 7
        assert list(kept.refused) == [3]
    assert word in kept.refused[3] or "40 bytes, 20 are left" in kept.refused[3]
    assert kept.nbytes <= 100


def test_one_that_is_too_large_leaves_nothing_behind() -> None:
    kept: Recordings[int, int] = Recordings("step", Sized(101), 2, 100, evict=True)
    assert kept.get(1, lambda: 7) is None
    assert len(kept) == 0


def published() -> Model:
    """Random weights in the published layout, with half of the tiny tower."""
    config = config_of("tiny")
    config["vision_config"] |= {"depth": 1}
    with torch.device("meta"):
        model = build_model(config)
    materialise(model, torch.float32, torch.device("cpu"))
    return initialise(model)


@pytest.mark.parametrize("layout", ["glm4v", "autoglm_phone"])
@torch.inference_mode()
def test_recorded_screens_are_encoded_as_others(layout: str) -> None:
    """Two sizes in one call, several images of one size, and a size that has lost its recording."""
    model: Model = published() if layout == "glm4v" else tiny_model()
    sizes = [(1, 4, 6), (1, 4, 4)] if layout == "glm4v" else GRIDS
    generator = torch.Generator().manual_seed(3)

    def pixels_of(grid: Grid) -> Tensor:
        _, height, width = grid
        values = model.config.vision.patch_values if isinstance(model.config, Glm4vConfig) else 0
        shape = (height * width, values) if values else (3, height * 2, width * 2)
        return torch.randn(shape, generator=generator)

    encoder = RecordedEncoder(model, Eager(), 1, 100)
    for grids in ([sizes[0]], [sizes[0], sizes[1], sizes[0]], [sizes[1]], [sizes[0], sizes[1]]):
        pixels = [pixels_of(grid) for grid in grids]
        found = encoder.encode(pixels, grids)
        expected = [model.encode_images([p], [g])[0] for p, g in zip(pixels, grids, strict=True)]
        for one, other in zip(found, expected, strict=True):
            for a, b in zip(one.tensors, other.tensors, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
        assert len(encoder.recordings) <= 1
    assert sizes[1] in encoder.recordings
