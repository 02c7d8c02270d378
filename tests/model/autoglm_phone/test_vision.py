"""Grids and the vision tower."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.errors import ImageError
from autoglm.model.autoglm_phone.grid import factor_grids, nearest_grid
from autoglm.prompt import ImageOptions, PhoneImageProcessor
from tests.model.autoglm_phone import naive
from tests.model.autoglm_phone.models import GRIDS, random_pixels, tiny_model

MODEL = tiny_model()


def test_known_screens() -> None:
    assert nearest_grid(224, 224, 576) == (24, 24)
    assert nearest_grid(2400, 1080, 576) == (36, 16)
    assert nearest_grid(1080, 2400, 576) == (16, 36)
    assert nearest_grid(1920, 1080, 576) == (32, 18)
    with pytest.raises(ImageError):
        nearest_grid(0, 5, 576)


@settings(derandomize=True, deadline=None, max_examples=80)
@given(st.integers(1, 4000), st.integers(1, 4000))
def test_grid_is_nearest_and_the_same_as_the_image_processors(height: int, width: int) -> None:
    rows, columns = nearest_grid(height, width, 576)
    assert rows * columns == 576

    def stretch(h: int, w: int) -> float:
        ratio = h / w * width / height
        return max(ratio, 1 / ratio)

    assert stretch(rows, columns) <= min(stretch(h, w) for h, w in factor_grids(576)) * (1 + 1e-9)
    assert PhoneImageProcessor(ImageOptions()).grid(height, width) == (rows, columns)


@pytest.mark.parametrize("index", range(len(GRIDS)))
def test_tower_agrees_with_the_naive_one(index: int) -> None:
    pixels, grids = random_pixels(len(GRIDS))
    config = MODEL.config.vision
    rows, columns = grids[index][1:]
    ours = MODEL.visual(pixels[index], (rows, columns))
    shape = (config.num_heads, config.depth, config.patch_size)
    theirs = naive.vision(naive.weights_of(MODEL), pixels[index], rows, columns, *shape)
    torch.testing.assert_close(ours.double(), theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("shape", "grid", "field"),
    [
        ((3, 8, 8), (4, 5), "grid"),
        ((3, 8, 8), (-4, -4), "grid"),
        ((3, 8, 10), (4, 4), "pixels"),
        ((1, 8, 8), (4, 4), "pixels"),
        ((3, 16, 4), (4, 4), "pixels"),
    ],
)
def test_misfits_are_named(shape: tuple[int, ...], grid: tuple[int, int], field: str) -> None:
    with pytest.raises(ImageError) as caught:
        MODEL.encode_images([torch.zeros(shape)], [(1, *grid)])
    assert caught.value.field == field
