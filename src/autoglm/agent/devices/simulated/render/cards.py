"""Pictures without words: result cards, portraits, product pictures, puzzles; the keyboard; the spinner."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image, ImageDraw

from autoglm.agent.devices.simulated.fonts import text_mask
from autoglm.agent.devices.simulated.layout import Placed
from autoglm.agent.devices.simulated.world import Look

from .painter import Painter
from .palette import WHITE, Palette, hsv
from .parts import avatar, middle, number, picture
from .shapes import rounded

KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def card(paint: Painter, item: Placed, look: Look) -> None:
    """The picture that ``art`` names: ``result.N``, ``person.KEY``, ``product.KEY``, ``captcha``, ``tick``."""
    kind, _, detail = item.art.partition(".")
    box = item.element.box
    x, y = middle(box)
    if kind == "person":
        avatar(paint, detail, x, y, (box[3] - box[1]) / 2 / paint.scale)
    elif kind == "product":
        picture(paint, detail, box, 110)
    elif kind == "tick":
        paint.disc(x, y, 46, (60, 176, 98))
        paint.sign("tick", x, y, 54, WHITE)
    elif kind == "captcha":
        paint.fill(box, hsv(number(str(look.wallpaper)) % 360, 0.35, 0.6), 16)
        paint.sign("puzzle", x + paint.px(60), y, 80, (235, 236, 240))
        paint.sign("puzzle", x - paint.px(90), y, 80, paint.palette.card)
    else:
        _result(paint, item, int(detail))


def _result(paint: Painter, item: Placed, seed: int) -> None:
    left, top, right, low = item.element.box
    palette = paint.palette
    paint.fill(item.element.box, palette.card, 16)
    side = low - top - paint.px(20)
    start = left + paint.px(12)
    hue = seed * 37 % 360
    dark = palette.dark
    tone = hsv(hue, 0.4, 0.42) if dark else hsv(hue, 0.3, 0.93)
    paint.fill((start, top + paint.px(10), start + side, low - paint.px(10)), tone, 12)
    line = start + side + paint.px(16)
    for index, share in enumerate((0.9, 0.65, 0.4)):
        y = top + paint.px(20) + index * paint.px(20)
        width = round((right - paint.px(16) - line) * share * (0.75 + seed * (index + 3) % 25 / 100))
        if y + paint.px(10) < low - paint.px(8):
            paint.fill((line, y, line + width, y + paint.px(9)), palette.line, 4)


def spinner(paint: Painter, item: Placed, look: Look) -> None:
    """An open ring."""
    x, y = middle(item.element.box)
    side = paint.px(64)
    big = Image.new("L", (side * 4, side * 4))
    draw = ImageDraw.Draw(big)
    draw.arc((8, 8, side * 4 - 8, side * 4 - 8), look.wallpaper % 360, look.wallpaper % 360 + 270, fill=255, width=28)
    paint.image.paste(
        paint.palette.accent, (round(x - side / 2), round(y - side / 2)), big.resize((side, side), Image.Resampling.BOX)
    )


def keyboard(paint: Painter, item: Placed, _look: Look) -> None:
    """The keys; drawn once for each look."""
    left, top, right, low = item.element.box
    paint.image.paste(_keys(right - left, low - top, paint.palette), (left, top))


@lru_cache(maxsize=32)
def _keys(width: int, height: int, palette: Palette) -> Image.Image:
    unit = width / 360
    base = (24, 26, 31) if palette.dark else (209, 212, 219)
    key = (62, 65, 74) if palette.dark else (255, 255, 255)
    dim = (44, 47, 54) if palette.dark else (184, 188, 197)
    image = Image.new("RGB", (width, height), base)

    def put(x: float, row: int, wide: float, colour: tuple[int, int, int], letter: str = "") -> None:
        box = (round(x * unit), round((10 + row * 58) * unit), round((x + wide) * unit), round((58 + row * 58) * unit))
        image.paste(colour, box[:2], rounded(box[2] - box[0], box[3] - box[1], round(7 * unit)))
        if letter:
            mask = text_mask(letter, round(19 * unit))
            spot = ((box[0] + box[2] - mask.width) // 2, (box[1] + box[3] - mask.height) // 2)
            image.paste(palette.text, spot, mask)

    for row, letters in enumerate(KEYS):
        start = (360 - len(letters) * 35) / 2
        for index, letter in enumerate(letters):
            put(start + index * 35 + 2, row, 31, key, letter)
    for x, row, wide in ((7.0, 2, 44.0), (309.0, 2, 44.0), (7.0, 3, 62.0), (291.0, 3, 62.0)):
        put(x, row, wide, dim)
    put(76, 3, 208, key)
    return image
