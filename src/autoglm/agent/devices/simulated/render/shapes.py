"""Smooth shapes: coverage masks drawn large, made small, and kept."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image, ImageDraw

from .glyphs import GLYPHS, Part

SUPER = 4


@lru_cache(maxsize=4096)
def rounded(width: int, height: int, radius: int) -> Image.Image:
    """Mask of a rounded rectangle. Shared: do not draw on it."""
    width, height = max(1, width), max(1, height)
    mask = Image.new("L", (width, height), 255)
    radius = min(radius, width // 2, height // 2)
    if radius < 1:
        return mask
    big = Image.new("L", (radius * SUPER * 2, radius * SUPER * 2))
    ImageDraw.Draw(big).ellipse((0, 0, radius * SUPER * 2 - 1, radius * SUPER * 2 - 1), fill=255)
    disc = big.resize((radius * 2, radius * 2), Image.Resampling.BOX)
    for x, left in ((0, 0), (width - radius, radius)):
        for y, top in ((0, 0), (height - radius, radius)):
            mask.paste(disc.crop((left, top, left + radius, top + radius)), (x, y))
    return mask


@lru_cache(maxsize=2048)
def glyph(name: str, size: int) -> Image.Image:
    """Mask of a glyph of ``GLYPHS``, ``size`` pixels square. Shared: do not draw on it."""
    side = size * SUPER
    big = Image.new("L", (side, side))
    draw = ImageDraw.Draw(big)
    for part in GLYPHS[name]:
        _stroke(draw, part, side / 100)
    return big.resize((size, size), Image.Resampling.BOX)


def _stroke(draw: ImageDraw.ImageDraw, part: Part, unit: float) -> None:
    shape, points, width = part
    ink = 0 if shape.startswith("cut ") else 255
    shape = shape.removeprefix("cut ")
    pixels = [value * unit for value in points]
    stroke = round(width * unit)
    if shape == "line":
        pairs = list(zip(pixels[::2], pixels[1::2], strict=True))
        draw.line(pairs, fill=ink, width=stroke, joint="curve")
        for x, y in (pairs[0], pairs[-1]):
            draw.ellipse((x - stroke / 2, y - stroke / 2, x + stroke / 2, y + stroke / 2), fill=ink)
    elif shape == "fill":
        draw.polygon(list(zip(pixels[::2], pixels[1::2], strict=True)), fill=ink)
    elif shape == "arc":
        draw.arc(pixels[:4], points[4], points[5], fill=ink, width=stroke)
    elif shape == "disc":
        draw.ellipse(pixels, fill=ink)
    elif shape == "ring":
        draw.ellipse(pixels, outline=ink, width=stroke)
    elif shape == "box":
        draw.rounded_rectangle(pixels[:4], pixels[4], fill=ink)
    elif shape == "frame":
        draw.rounded_rectangle(pixels[:4], pixels[4], outline=ink, width=stroke)
    else:
        raise ValueError(f"no such stroke: {shape}")
