"""How each kind of element is drawn."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import lru_cache

from PIL import Image, ImageChops

from autoglm.agent.devices.simulated.elements import Box
from autoglm.agent.devices.simulated.layout import Placed
from autoglm.agent.devices.simulated.world import Look

from .glyphs import PRODUCT_GLYPHS
from .painter import Painter
from .palette import ORANGE, RED, WHITE, Colour, hsv
from .shapes import glyph, rounded

Part = Callable[[Painter, Placed, Look], None]


def number(text: str) -> int:
    """A stable number for a name."""
    return zlib.crc32(text.encode())


def middle(box: Box) -> tuple[float, float]:
    """Centre of a box."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


@lru_cache(maxsize=1024)
def tile(size: int, hue: int, dark: bool) -> Image.Image:
    """A square with a soft gradient."""
    image = Image.new("RGB", (size, size), hsv(hue, 0.80, 0.66 if dark else 0.80))
    upper = hsv(hue + 12, 0.62, 0.80 if dark else 0.95)
    image.paste(
        upper, (0, 0), Image.linear_gradient("L").transpose(Image.Transpose.FLIP_TOP_BOTTOM).resize((size, size))
    )
    return image


def icon(paint: Painter, item: Placed, look: Look) -> None:
    """An app's tile; the label is drawn by the screen, in the wallpaper's colour."""
    box = item.element.box
    side, x = paint.px(56), (box[0] + box[2]) / 2
    left, top = round(x - side / 2), box[1] + paint.px(6)
    radius = (paint.px(15), paint.px(21), side // 2)[look.icon_shape]
    paint.image.paste(
        tile(side, look.icon_hues[item.art], paint.palette.dark), (left, top), rounded(side, side, radius)
    )
    paint.sign(f"app.{item.art}", x, top + side / 2, 30, WHITE)


def avatar(paint: Painter, name: str, x: float, y: float, radius: float) -> None:
    """A person's round picture."""
    hue = number(name) % 24 * 15
    dark = paint.palette.dark
    paint.disc(x, y, radius, hsv(hue, 0.45, 0.55 if dark else 0.86))
    side = paint.px(radius * 2)
    box = (round(x) - side // 2, round(y) - side // 2)
    paint.image.paste(WHITE, box, _portrait(side))


@lru_cache(maxsize=64)
def _portrait(side: int) -> Image.Image:
    """Mask of a head and shoulders inside a disc."""
    small = round(side * 0.82)
    ink = Image.new("L", (side, side))
    ink.paste(glyph("person", small), ((side - small) // 2, side - small))
    return ImageChops.multiply(ink, rounded(side, side, side // 2))


def surface(paint: Painter, item: Placed, look: Look) -> Box:
    """The background of a list row: a card, or a line below it."""
    box = item.element.box
    if look.cards:
        gap, inset = paint.px(3), paint.px(8)
        inner = (box[0] + inset, box[1] + gap, box[2] - inset, box[3] - gap)
        paint.fill(inner, paint.palette.card, 14)
    else:
        paint.fill((box[0] + paint.px(16), box[3] - 1, box[2] - paint.px(8), box[3]), paint.palette.line)
    return box


def row(paint: Painter, item: Placed, look: Look) -> None:
    """A row that leads somewhere."""
    box = surface(paint, item, look)
    y = middle(box)[1]
    if item.art:
        x = paint.px(36)
        side = paint.px(32)
        hue = number(item.art) % 24 * 15
        spot = (round(x - side / 2), round(y - side / 2))
        radius = side // 2 if look.icon_shape == 2 else paint.px(9)
        paint.image.paste(tile(side, hue, paint.palette.dark), spot, rounded(side, side, radius))
        paint.sign(f"section.{item.art}", x, y, 19, WHITE)
    paint.label(item, paint.palette.text)
    paint.sign("next", box[2] - paint.px(24), y, 15, paint.palette.muted)


def switch(paint: Painter, right: float, y: float, on: bool) -> None:
    """A switch, 52 x 30 dp."""
    width, height = paint.px(52), paint.px(30)
    left, top = round(right) - width, round(y) - height // 2
    off = (92, 96, 106) if paint.palette.dark else (176, 180, 190)
    paint.fill((left, top, left + width, top + height), paint.palette.accent if on else off, 16)
    paint.disc(left + (width - height / 2 if on else height / 2), top + height / 2, 11, WHITE)


def toggle(paint: Painter, item: Placed, look: Look) -> None:
    """A label and its switch."""
    box = surface(paint, item, look)
    colour = paint.palette.text
    if item.element.kind == "time_row" and item.element.state == "off":
        colour = paint.palette.muted
    paint.label(item, colour)
    switch(paint, box[2] - paint.px(20), middle(box)[1], item.element.state == "on")


def choice(paint: Painter, item: Placed, look: Look) -> None:
    """A value and its round mark."""
    box = surface(paint, item, look)
    paint.label(item, paint.palette.text)
    x, y = box[2] - paint.px(36), middle(box)[1]
    chosen = item.element.state == "selected"
    paint.disc(x, y, 14, paint.palette.accent if chosen else paint.palette.muted)
    inner = paint.palette.card if look.cards else paint.palette.background
    if chosen:
        paint.sign("tick", x, y, 18, WHITE)
    else:
        paint.disc(x, y, 12, inner)


def person(paint: Painter, item: Placed, look: Look) -> None:
    """A picture and a name."""
    box = surface(paint, item, look)
    avatar(paint, item.art, box[0] + paint.px(40), middle(box)[1], 19)
    paint.label(item, paint.palette.text)


def picture(paint: Painter, name: str, box: Box, size: float) -> None:
    """What a product looks like."""
    hue = number(name) % 24 * 15
    dark = paint.palette.dark
    paint.fill(box, hsv(hue, 0.3, 0.32) if dark else hsv(hue, 0.16, 0.97), 14)
    kind = number(f"{name} kind") % len(PRODUCT_GLYPHS)
    paint.sign(f"product.{kind}", *middle(box), size, hsv(hue, 0.5, 0.85) if dark else hsv(hue, 0.55, 0.72))


def product(paint: Painter, item: Placed, look: Look) -> None:
    """A picture, a name, a price."""
    box = surface(paint, item, look)
    name, price = item.art.split()
    y, half = middle(box)[1], paint.px(29)
    left = box[0] + paint.px(20)
    picture(paint, name, (left, round(y) - half, left + 2 * half, round(y) + half), 36)
    paint.label(item, paint.palette.text)
    paint.small(f"¥{price}", box[2] - paint.px(18), y, 19, ORANGE)


def field(paint: Painter, item: Placed, _look: Look) -> None:
    """A search box or a text field: round, with an accent edge and a caret while it has the focus."""
    element, palette = item.element, paint.palette
    focused = element.state == "focused"
    radius = 14 if element.kind == "text_field" else 25
    inside = palette.card if focused else palette.field
    paint.border(element.box, palette.accent if focused else palette.line, inside, radius, 2)
    if element.kind == "search_box":
        paint.sign("search", element.box[0] + paint.px(25), middle(element.box)[1], 20, palette.muted)
    paint.label(item, palette.muted if element.concept else palette.text)
    if focused and element.text_box is not None:
        x = element.text_box[0] - paint.px(4) if element.concept else element.text_box[2] + paint.px(3)
        top, low = element.box[1] + paint.px(13), element.box[3] - paint.px(13)
        paint.fill((x, top, x + max(2, paint.px(2)), low), palette.accent)


def button(paint: Painter, item: Placed, look: Look) -> None:
    """A filled button; quiet ones in dialogs; red to hang up."""
    element, palette = item.element, paint.palette
    quiet = item.art == "dialog" and element.concept in ("ui.deny", "ui.later", "ui.cancel")
    colour: Colour = RED if item.art == "red" or element.concept == "ui.delete" else palette.accent
    text: Colour = WHITE
    if quiet:
        colour, text = palette.field, palette.text
    elif element.state == "on":
        colour, text = palette.soft, palette.text
    paint.fill(element.box, colour, 24 if look.icon_shape == 2 else 14)
    paint.label(item, text)


def pay_button(paint: Painter, item: Placed, _look: Look) -> None:
    """The button that costs money."""
    paint.fill(item.element.box, ORANGE, 29)
    paint.label(item, WHITE)


def back(paint: Painter, item: Placed, _look: Look) -> None:
    """An arrow."""
    paint.sign("back", *middle(item.element.box), 26, paint.palette.text)


def title(paint: Painter, item: Placed, _look: Look) -> None:
    """The page's name."""
    paint.label(item, paint.palette.text)


def note(paint: Painter, item: Placed, _look: Look) -> None:
    """A line of text; some stand on a card."""
    box, palette = item.element.box, paint.palette
    if item.art in ("note", "query"):
        paint.fill(box, palette.card, 14)
    elif item.art == "field":
        paint.border(box, palette.line, palette.field, 14, 2)
    if item.art == "query":
        paint.sign("search", box[0] + paint.px(25), middle(box)[1], 20, palette.accent)
    quiet = item.art == "field" or item.element.concept in ("ui.end", "ui.no_items", "ui.no_results")
    paint.label(item, ORANGE if item.art == "price" else palette.muted if quiet else palette.text)


def bubble(paint: Painter, item: Placed, _look: Look) -> None:
    """What was said."""
    mine = item.element.state == "mine"
    paint.fill(item.element.box, paint.palette.mine if mine else paint.palette.theirs, 16)
    paint.label(item, paint.palette.text)


def banner(paint: Painter, item: Placed, _look: Look) -> None:
    """A message that just came in."""
    box, palette = item.element.box, paint.palette
    paint.fill(box, palette.card, 20)
    y = middle(box)[1]
    avatar(paint, item.element.concept, box[0] + paint.px(34), y, 19)
    paint.label(item, palette.text)
    paint.sign("app.messages", box[2] - paint.px(32), y, 26, palette.accent)


def dots(paint: Painter, item: Placed, _look: Look) -> None:
    """Which page of the home screen."""
    x, y = middle(item.element.box)
    page, pages = (int(part) for part in item.element.state.split("/"))
    for index in range(pages):
        here = index + 1 == page
        spot = x + paint.px((index - (pages - 1) / 2) * 18)
        paint.disc(spot, y, 6, (120, 122, 128))
        paint.disc(spot, y, 4.5, WHITE if here else (70, 72, 78))


def scrollbar(paint: Painter, item: Placed, _look: Look) -> None:
    """A track and a thumb."""
    left, top, right, low = item.element.box
    scroll, last, capacity = (int(part) for part in item.art.split("/"))
    paint.fill((left + 1, top, right, low), paint.palette.line, 4)
    length = max(0.2, capacity / (last + capacity - 1)) * (low - top)
    start = top + (low - top - length) * scroll / last
    thumb = (205, 208, 216) if paint.palette.dark else (86, 90, 100)
    paint.fill((left + 1, round(start), right, round(start + length)), thumb, 4)


def nothing(paint: Painter, item: Placed, look: Look) -> None:
    """Drawn elsewhere."""
