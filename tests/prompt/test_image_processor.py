from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil
from transformers.models.glm4v.image_processing_pil_glm4v import smart_resize as reference_resize

from autoglm.errors import (
    CheckpointNotFoundError,
    CorruptCheckpointError,
    ImageError,
    InvalidInputError,
    UnsupportedCheckpointError,
)
from autoglm.prompt import Glm4vImageProcessor, ImageOptions, PhoneImageProcessor, smart_resize
from autoglm.prompt.native import library
from autoglm.prompt.synthetic_images import screenshot

OFFICIAL = ImageOptions(shortest_edge=12544, longest_edge=9_633_792)
SIZES = [
    (2400, 1080),
    (1600, 720),
    (1920, 1080),
    (1080, 2400),
    (3200, 1440),
    (640, 360),
    (300, 300),
    (100, 80),
    (20, 1000),
    (13, 17),
]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_bit_equal_to_the_reference(height: int, width: int) -> None:
    pixels = screenshot(height, width, seed=height)
    ours = Glm4vImageProcessor(OFFICIAL).process(pixels)
    size = {"shortest_edge": OFFICIAL.shortest_edge, "longest_edge": OFFICIAL.longest_edge}
    theirs = Glm4vImageProcessorPil(size=size)(Image.fromarray(pixels), return_tensors="np")
    assert [list(ours.grid)] == theirs["image_grid_thw"].tolist()
    assert ours.pixels.dtype == np.float32
    np.testing.assert_array_equal(ours.pixels, theirs["pixel_values"])
    assert ours.num_tokens * 4 == len(ours.pixels)


@given(st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 2]), st.sampled_from([1, 2]), st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_compiled_rows_are_those_of_numpy(rows: int, columns: int, merge: int, frames: int, seed: int) -> None:
    assert library.library() is not None  # the tests' environment has a compiler
    options = replace(ImageOptions(), patch_size=6, merge_size=merge, temporal_patch_size=frames)
    processor = Glm4vImageProcessor(options)
    shape = (rows * merge * 6, columns * merge * 6, 3)
    image = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    compiled = processor._patchify(image, rows * merge, columns * merge)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("autoglm.prompt.image_processor.patch_rows", lambda *_: None)
        assert np.array_equal(processor._patchify(image, rows * merge, columns * merge), compiled)


@pytest.mark.parametrize(
    ("size", "grid", "tokens"),
    [
        ((2400, 1080), (172, 78), 3354),
        ((1600, 720), (114, 52), 1482),
        ((1920, 1080), (138, 78), 2691),
        ((3200, 1440), (228, 102), 5814),
    ],
)
def test_known_grids(size: tuple[int, int], grid: tuple[int, int], tokens: int) -> None:
    height, width = smart_resize(*size, OFFICIAL)
    assert (height // 14, width // 14) == grid
    assert height * width // 784 == tokens


def test_max_pixels_works_and_means_longest_edge() -> None:
    processor = Glm4vImageProcessor(OFFICIAL, max_pixels=5_000_000)
    assert processor.options == replace(OFFICIAL, longest_edge=5_000_000)
    height, width = smart_resize(2400, 1080, processor.options)
    assert (height // 14, width // 14) == (168, 74)
    assert 2 * height * width <= 5_000_000
    assert processor.fingerprint != Glm4vImageProcessor(OFFICIAL).fingerprint


def test_min_pixels_enlarges() -> None:
    options = Glm4vImageProcessor(OFFICIAL, min_pixels=1_000_000).options
    height, width = smart_resize(100, 100, options)
    assert 2 * height * width >= 1_000_000


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"max_pixels": 100}, "max_pixels"),
        ({"max_pixels": -1}, "max_pixels"),
        ({"min_pixels": 0}, "min_pixels"),
        ({"min_pixels": 10_000_000}, "min_pixels"),
    ],
)
def test_impossible_budgets(arguments: dict[str, int], field: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        Glm4vImageProcessor(OFFICIAL, **arguments)
    assert error.value.field == field


@settings(derandomize=True, deadline=None, max_examples=500)
@given(st.integers(1, 9000), st.integers(1, 9000), st.sampled_from([9_633_792, 5_000_000, 100_000]))
def test_size_rule_equals_the_reference(height: int, width: int, budget: int) -> None:
    options = replace(OFFICIAL, longest_edge=budget)
    try:
        expected = reference_resize(2, height, width, temporal_factor=2, factor=28, min_pixels=12544, max_pixels=budget)
    except ValueError:
        with pytest.raises(ImageError):
            smart_resize(height, width, options)
        return
    assert smart_resize(height, width, options) == expected


def test_digest_is_of_pixels_grid_and_processor() -> None:
    processor = Glm4vImageProcessor(OFFICIAL)
    pixels = screenshot(280, 140)
    digest = processor.process(pixels).digest
    assert processor.process(pixels.copy()).digest == digest
    changed = pixels.copy()
    changed[5, 5, 0] ^= 255
    assert processor.process(changed).digest != digest
    other = Glm4vImageProcessor(replace(OFFICIAL, image_mean=(0.5, 0.5, 0.5)))
    assert other.process(pixels).digest != digest
    # the same bytes in another shape
    assert processor.process(pixels.reshape(140, 280, 3)).digest != digest


@pytest.mark.parametrize(
    ("size", "grid"),
    [((2400, 1080), (36, 16)), ((1080, 2400), (16, 36)), ((500, 500), (24, 24)), ((1920, 1080), (32, 18))],
)
def test_phone_grids(size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert PhoneImageProcessor(OFFICIAL).grid(*size) == grid


def test_phone_output() -> None:
    pixels = screenshot(1200, 540)
    image = PhoneImageProcessor(OFFICIAL).process(pixels)
    assert (image.grid, image.num_tokens) == ((1, 36, 16), 1)
    assert image.pixels.shape == (3, 36 * 14, 16 * 14)
    resized = np.asarray(Image.fromarray(pixels).resize((224, 504), Image.Resampling.BICUBIC))
    mean, std = np.array(OFFICIAL.image_mean), np.array(OFFICIAL.image_std)
    expected = ((resized / 255 - mean) / std).transpose(2, 0, 1)
    np.testing.assert_allclose(image.pixels, expected, atol=1e-6)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.integers(1, 5000), st.integers(1, 5000))
def test_phone_grid_always_holds_576_patches(height: int, width: int) -> None:
    rows, columns = PhoneImageProcessor(OFFICIAL).grid(height, width)
    assert rows * columns == 576


def test_options_from_files(checkpoint: Path, tmp_path: Path) -> None:
    assert ImageOptions.from_directory(checkpoint) == OFFICIAL
    with pytest.raises(CheckpointNotFoundError):
        ImageOptions.from_directory(tmp_path)
    Glm4vImageProcessorPil(size={"shortest_edge": 12544, "longest_edge": 5_000_000}).save_pretrained(tmp_path)
    assert ImageOptions.from_directory(tmp_path).longest_edge == 5_000_000
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": saved}))
    assert ImageOptions.from_directory(tmp_path).longest_edge == 5_000_000


@pytest.mark.parametrize(
    "raw",
    [
        {"do_resize": False},
        {"resample": 2},
        {"do_center_crop": True},
        {"size": {"longest_edge": 9}, "max_pixels": 8},
    ],
)
def test_settings_that_would_be_ignored_are_refused(raw: dict[str, object]) -> None:
    with pytest.raises(UnsupportedCheckpointError):
        ImageOptions.from_dict(raw)


@pytest.mark.parametrize(
    "raw",
    [
        {"size": 5},
        {"size": {"longest_edge": "x"}},
        {"patch_size": 0},
        {"image_std": [1, 0, 1]},
        {"image_mean": [1]},
        {"rescale_factor": "a"},
    ],
)
def test_corrupt_settings(raw: dict[str, object]) -> None:
    with pytest.raises(CorruptCheckpointError):
        ImageOptions.from_dict(raw)
