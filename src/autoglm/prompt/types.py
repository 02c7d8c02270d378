"""What `prompt/` hands to `engine/`: token ids and processed images, nothing of HTTP, nothing of torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ProcessedImage:
    """One image, ready for the vision tower.

    Attributes:
        digest: sha-256 over (processor fingerprint, grid, pixels before normalising). Equal digests mean
            bit-equal ``pixels``; it is the image's identity in every cache.
        pixels: ``glm4v``: float32 ``[t*h*w, 1176]`` patch rows in 2x2 block order;
            ``autoglm_phone``: float32 ``[3, grid_h*patch, grid_w*patch]``.
        grid: patches (t, h, w), before merging.
        num_tokens: placeholder tokens it takes in the sequence (``glm4v``: t*h*w/4; ``autoglm_phone``: 1).
    """

    digest: bytes
    pixels: NDArray[np.float32]
    grid: tuple[int, int, int]
    num_tokens: int


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """An image with its place: ``token_ids[start : start + image.num_tokens]`` are its placeholders."""

    image: ProcessedImage
    start: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered dialogue. ``images`` are in order of ``start``."""

    token_ids: list[int]
    images: tuple[PlacedImage, ...]
