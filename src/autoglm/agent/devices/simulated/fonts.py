"""The one font of the simulated phone: where it is, how wide a text is, the mask of a text.

WenQuanYi Micro Hei (Debian package ``fonts-wqy-microhei``), licensed Apache-2.0 or GPL-3.0 with the font exception;
it is used from the system and not shipped with this project. The glyphs are part of what the embedded model has
learned to read, so another font is not a substitute.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from autoglm.errors import AutoGLMError

FONT_PATH = Path("/usr/share/fonts/truetype/wqy/wqy-microhei.ttc")


class FontMissingError(AutoGLMError):
    """The font the simulated phone draws with is not installed."""

    kind = "font_missing"


@lru_cache(maxsize=64)
def font(size: int) -> ImageFont.FreeTypeFont:
    """The font at ``size`` pixels.

    Raises:
        FontMissingError: the file is not on this machine.
    """
    if not FONT_PATH.exists():
        raise FontMissingError(
            f"The simulated phone needs the font {FONT_PATH}; install it with: apt-get install fonts-wqy-microhei",
            field="font",
            value=str(FONT_PATH),
        )
    return ImageFont.truetype(str(FONT_PATH), size)


@lru_cache(maxsize=32768)
def text_width(text: str, size: int) -> int:
    """Width in pixels of ``text`` set in one line."""
    return int(font(size).getlength(text) + 0.999)


def line_height(size: int) -> int:
    """Height in pixels of the box of one line: holds ascenders and descenders."""
    return round(size * 1.24)


@lru_cache(maxsize=8192)
def text_mask(text: str, size: int) -> Image.Image:
    """Coverage mask ("L") of one line, ``text_width`` x ``line_height``. Shared: do not draw on it."""
    mask = Image.new("L", (max(1, text_width(text, size)), line_height(size)))
    ImageDraw.Draw(mask).text((0, line_height(size) // 2), text, 255, font=font(size), anchor="lm")
    return mask
