"""Synthetic screenshots, for tests and demos."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def screenshot(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """uint8 ``[height, width, channels]``: panels, gradients, noise; the same for the same ``seed``."""
    generator = np.random.default_rng(seed)
    image = np.zeros((height, width, channels), dtype=np.uint8)
    image[..., 0] = np.linspace(0, 255, width, dtype=np.uint8)[None]
    image[..., 1 % channels] = np.linspace(255, 0, height, dtype=np.uint8)[:, None]
    top = height // 3
    image[:top] = generator.integers(0, 256, (top, width, channels), dtype=np.uint8)
    image[top : top + height // 6] = seed % 256
    return image


def encode(pixels: NDArray[np.uint8], form: str = "PNG", **options: Any) -> bytes:
    """``pixels`` as an image file of PIL's format ``form``, saved with PIL's ``options``."""
    out = BytesIO()
    Image.fromarray(pixels).save(out, form, **options)
    return out.getvalue()
