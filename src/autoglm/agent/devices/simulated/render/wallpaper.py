"""Backgrounds of the home screen: a gradient with a few soft shapes, from a seed."""

from __future__ import annotations

import random
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFilter

from .palette import WHITE, Colour, hsv

SMALL = (45, 100)
"""Drawn at this size and enlarged, which makes every edge soft and costs little."""


@lru_cache(maxsize=64)
def wallpaper(seed: int, dark: bool, size: tuple[int, int]) -> tuple[Image.Image, Colour]:
    """The picture and the colour of labels on it. Shared: copy before drawing."""
    rng = random.Random(f"wallpaper {seed}")
    bright = rng.random() < 0.45 and not dark
    hue, turn = rng.uniform(0, 360), rng.uniform(-70, 70)
    saturation = rng.uniform(0.12, 0.28) if bright else rng.uniform(0.4, 0.7)
    low, high = (0.9, 0.98) if bright else (0.10, 0.24) if dark else (0.26, 0.44)
    upper, lower = hsv(hue, saturation, high), hsv(hue + turn, saturation, low)
    small = Image.new("RGB", SMALL, lower)
    small.paste(upper, (0, 0), Image.linear_gradient("L").transpose(Image.Transpose.FLIP_TOP_BOTTOM).resize(SMALL))
    draw = ImageDraw.Draw(small)
    for _ in range(rng.randint(1, 4)):
        x, y, radius = rng.uniform(-5, 50), rng.uniform(0, 105), rng.uniform(8, 30)
        tone = hsv(hue + turn * rng.random(), saturation * rng.uniform(0.7, 1.1), rng.uniform(low, high))
        if rng.random() < 0.6:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tone)
        else:
            draw.polygon(((-5, y), (50, y - radius), (50, y + radius), (-5, y + 2 * radius)), fill=tone)
    small = small.filter(ImageFilter.GaussianBlur(1.3))
    picture = small.resize(size, Image.Resampling.BICUBIC)
    return picture, (26, 28, 34) if bright else WHITE
