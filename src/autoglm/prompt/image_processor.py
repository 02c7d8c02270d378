"""RGB pixels to what the vision tower takes, for both model layouts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autoglm.errors import ImageError, InvalidInputError
from autoglm.prompt.image_options import ImageOptions
from autoglm.prompt.native.library import patch_rows
from autoglm.prompt.types import ProcessedImage

MAX_ASPECT_RATIO = 200


class ImageProcessor(Protocol):
    """Two implementations, one per layout. Stateless after construction; safe to call from any thread."""

    @property
    def fingerprint(self) -> bytes:
        """sha-256 over everything that decides the output for given pixels."""

    def process(self, pixels: NDArray[np.uint8]) -> ProcessedImage:
        """``pixels``: uint8 ``[height, width, 3]`` RGB. :meth:`finish` of what :meth:`resize` gives."""

    def resize(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The same picture in the size the tower takes."""

    def finish(self, resized: NDArray[np.uint8]) -> ProcessedImage:
        """Normalised and in order. Raises :class:`ValueError` for a size that :meth:`resize` never gives."""


def smart_resize(height: int, width: int, options: ImageOptions) -> tuple[int, int]:
    """The size (height, width) in pixels an image is resized to; the rule of transformers 5.23 for glm4v.

    Sides under ``factor = patch_size * merge_size`` are first enlarged to it. Each side is rounded to a
    multiple of ``factor``; the area times ``temporal_patch_size`` is brought between ``shortest_edge`` and
    ``longest_edge``.

    Raises:
        ImageError: the aspect ratio is over 200 after enlarging.
    """
    factor, frames = options.patch_size * options.merge_size, options.temporal_patch_size
    if height < factor or width < factor:
        scale = max(factor / height, factor / width)
        height, width = int(height * scale), int(width * scale)
    ratio = max(height, width) / min(height, width)
    if ratio > MAX_ASPECT_RATIO:
        raise ImageError(
            f"aspect ratio {ratio:.1f} is over the limit of {MAX_ASPECT_RATIO}",
            field="image",
            limit=MAX_ASPECT_RATIO,
            value=ratio,
        )
    new_height, new_width = round(height / factor) * factor, round(width / factor) * factor
    if frames * new_height * new_width > options.longest_edge:
        beta = math.sqrt(frames * height * width / options.longest_edge)
        new_height = max(factor, math.floor(height / beta / factor) * factor)
        new_width = max(factor, math.floor(width / beta / factor) * factor)
    elif frames * new_height * new_width < options.shortest_edge:
        beta = math.sqrt(options.shortest_edge / (frames * height * width))
        new_height = math.ceil(height * beta / factor) * factor
        new_width = math.ceil(width * beta / factor) * factor
    return new_height, new_width


class Glm4vImageProcessor:
    """The published layout: patch rows in 2x2 block order, as many as the screenshot needs.

    Args:
        min_pixels, max_pixels: override ``size.shortest_edge`` and ``size.longest_edge``, and mean exactly
            what those mean: budgets for ``2 * height * width``. (The reference takes ``max_pixels`` and
            does nothing with it.)

    Raises:
        InvalidInputError: a budget that no image can meet.
    """

    def __init__(self, options: ImageOptions, *, min_pixels: int | None = None, max_pixels: int | None = None) -> None:
        if min_pixels is not None:
            options = replace(options, shortest_edge=min_pixels)
        if max_pixels is not None:
            options = replace(options, longest_edge=max_pixels)
        least = options.temporal_patch_size * (options.patch_size * options.merge_size) ** 2
        if options.longest_edge < least:
            raise InvalidInputError(
                f"max_pixels must be at least {least}, one merged patch",
                field="max_pixels",
                limit=least,
                value=options.longest_edge,
            )
        if not 1 <= options.shortest_edge <= options.longest_edge:
            raise InvalidInputError(
                f"min_pixels must be between 1 and max_pixels ({options.longest_edge})",
                field="min_pixels",
                limit=options.longest_edge,
                value=options.shortest_edge,
            )
        self.options = options
        self.fingerprint = hashlib.sha256(repr(("glm4v", astuple(options))).encode()).digest()
        self._table = _normalising_table(options)

    def process(self, pixels: NDArray[np.uint8]) -> ProcessedImage:
        return self.finish(self.resize(pixels))

    def resize(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return _resize(pixels, *smart_resize(pixels.shape[0], pixels.shape[1], self.options))

    def finish(self, resized: NDArray[np.uint8]) -> ProcessedImage:
        options = self.options
        height, width = resized.shape[:2]
        factor = options.patch_size * options.merge_size
        if height % factor or width % factor or options.temporal_patch_size * height * width > options.longest_edge:
            raise ValueError(f"{height}x{width} pixels are no size of this processor")
        grid = (1, height // options.patch_size, width // options.patch_size)
        return ProcessedImage(
            digest=_digest(self.fingerprint, grid, resized),
            pixels=self._patchify(resized, grid[1], grid[2]),
            grid=grid,
            num_tokens=grid[1] * grid[2] // options.merge_size**2,
        )

    def _patchify(self, image: NDArray[np.uint8], grid_h: int, grid_w: int) -> NDArray[np.float32]:
        """Rows: block row, block column, then 2x2 inside; columns: channel, frame, y, x."""
        size, merge, frames = (
            self.options.patch_size,
            self.options.merge_size,
            self.options.temporal_patch_size,
        )
        compiled = patch_rows(np.ascontiguousarray(image), size, merge, frames, self._table)
        if compiled is not None:
            return compiled
        blocks = image.reshape(grid_h // merge, merge, size, grid_w // merge, merge, size, 3)
        # Reorder as bytes, a quarter of the traffic of doing it in float32; normalise while writing the
        # result.
        ordered = np.ascontiguousarray(blocks.transpose(6, 0, 3, 1, 4, 2, 5)).reshape(3, -1, size * size)
        rows = np.empty((grid_h * grid_w, 3, frames, size * size), dtype=np.float32)
        for channel in range(3):
            values = np.take(self._table[channel], ordered[channel], mode="clip")
            for frame in range(frames):
                rows[:, channel, frame] = values
        return rows.reshape(grid_h * grid_w, -1)


@dataclass(frozen=True, slots=True)
class PhoneOptions:
    """The described layout: ``num_patches`` patches of ``patch_size`` pixels, shaped after the screenshot."""

    num_patches: int = 576
    patch_size: int = 14

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PhoneOptions:
        """What ``vision_config`` of a ``config.json`` says; the model checks that section."""
        default, vision = cls(), config.get("vision_config")
        if not isinstance(vision, Mapping):
            return default
        return cls(
            int(vision.get("num_tokens", default.num_patches)), int(vision.get("patch_size", default.patch_size))
        )


class PhoneImageProcessor:
    """The gated cross-attention layout: a fixed number of patches, one placeholder token per image.

    The grid is the factorisation ``grid_h * grid_w = num_patches`` whose shape is nearest to the
    screenshot's, by the logarithm of the ratio (24x24 for a square, 36x16 for 1080x2400).
    """

    def __init__(self, options: ImageOptions, phone: PhoneOptions | None = None) -> None:
        self.options = options
        self.phone = phone or PhoneOptions()
        self.fingerprint = hashlib.sha256(
            repr(("autoglm_phone", astuple(options), astuple(self.phone))).encode()
        ).digest()
        self._table = _normalising_table(options)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(grid_h, grid_w) in patches for an image of this size in pixels."""
        count = self.phone.num_patches
        target = math.log(height / width)
        rows = min(
            (r for r in range(1, count + 1) if count % r == 0),
            key=lambda r: abs(math.log(r * r / count) - target),
        )
        return rows, count // rows

    def process(self, pixels: NDArray[np.uint8]) -> ProcessedImage:
        return self.finish(self.resize(pixels))

    def resize(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        rows, columns = self.grid(pixels.shape[0], pixels.shape[1])
        return _resize(pixels, rows * self.phone.patch_size, columns * self.phone.patch_size)

    def finish(self, resized: NDArray[np.uint8]) -> ProcessedImage:
        size = self.phone.patch_size
        grid = (1, resized.shape[0] // size, resized.shape[1] // size)
        whole = resized.shape[0] % size == 0 == resized.shape[1] % size
        if not whole or grid[1] * grid[2] != self.phone.num_patches:
            raise ValueError(f"{resized.shape[0]}x{resized.shape[1]} pixels are no size of this processor")
        return ProcessedImage(
            digest=_digest(self.fingerprint, grid, resized),
            pixels=np.stack([self._table[c][resized[:, :, c]] for c in range(3)]),
            grid=grid,
            num_tokens=1,
        )


def _normalising_table(options: ImageOptions) -> NDArray[np.float32]:
    """[3, 256]: the normalised value of each byte.

    Same rounding steps as the reference, so bit-equal to it.
    """
    scaled = (np.arange(256, dtype=np.float64) * options.rescale_factor).astype(np.float32)
    mean = np.array(options.image_mean, dtype=np.float32)[:, None]
    std = np.array(options.image_std, dtype=np.float32)[:, None]
    return np.asarray((scaled[None] - mean) / std, dtype=np.float32)


def _resize(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def _digest(fingerprint: bytes, grid: tuple[int, int, int], pixels: NDArray[np.uint8]) -> bytes:
    digest = hashlib.sha256(fingerprint)
    digest.update(repr(grid).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()
