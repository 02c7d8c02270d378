"""The whole screen: background, status bar, elements, dialog."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from autoglm.agent.devices.simulated.layout import DIALOG, Placed
from autoglm.agent.devices.simulated.state import PhoneState
from autoglm.agent.devices.simulated.world import Look, World

from . import cards, parts
from .painter import Painter
from .palette import Colour, Palette
from .wallpaper import wallpaper

DRAWN: dict[str, parts.Part] = {
    "icon": parts.icon,
    "row": parts.row,
    "toggle": parts.toggle,
    "time_row": parts.toggle,
    "choice": parts.choice,
    "person": parts.person,
    "product": parts.product,
    "search_box": parts.field,
    "text_field": parts.field,
    "button": parts.button,
    "pay_button": parts.pay_button,
    "back": parts.back,
    "title": parts.title,
    "note": parts.note,
    "card": cards.card,
    "bubble": parts.bubble,
    "dialog": parts.nothing,
    "keyboard": cards.keyboard,
    "spinner": cards.spinner,
    "banner": parts.banner,
    "scrollbar": parts.scrollbar,
    "dots": parts.dots,
}
"""Element kind -> what draws it."""


def render_screen(world: World, state: PhoneState, placed: Sequence[Placed]) -> Image.Image:
    """The screen as an RGB picture of the phone's size. A pure function of its arguments."""
    spec, look = world.spec, world.look
    palette = Palette.of(spec.theme, look.accent)
    size = (spec.width, spec.height)
    at_home = state.page.kind == "home"
    ink: Colour = palette.text
    if at_home:
        picture, ink = wallpaper(look.wallpaper, palette.dark, size)
        image = picture.copy()
    else:
        image = Image.new("RGB", size, palette.background)
    paint = Painter(image, spec, palette)
    _status(paint, world.clock_text, ink)
    for item in placed:
        if item.layer != DIALOG:
            DRAWN[item.element.kind](paint, item, look)
            if item.element.kind == "icon":
                paint.label(item, ink, shadow=(20, 22, 28) if ink[0] > 128 else None)
    _gesture(paint, size, ink)
    if state.dialog:
        paint.image = image = image.point(_DIMMED)
        _dialog(paint, placed, look)
    return image


_DIMMED = [value * 9 // 20 for value in range(256)] * 3


def _status(paint: Painter, time: str, ink: Colour) -> None:
    y = paint.px(16)
    paint.small(time, paint.px(62), y, 15 / paint.font_scale, ink)
    width = paint.image.width
    for index in range(4):
        left = width - paint.px(96) + index * paint.px(5)
        paint.fill((left, y + paint.px(5 - index * 3), left + paint.px(3.4), y + paint.px(6)), ink, 1)
    paint.sign("section.wlan", width - paint.px(62), y, 17, ink)
    left = width - paint.px(46)
    paint.fill((left, y - paint.px(6), left + paint.px(25), y + paint.px(6)), ink, 4)
    paint.fill((left + paint.px(26), y - paint.px(2), left + paint.px(28), y + paint.px(3)), ink)


def _gesture(paint: Painter, size: tuple[int, int], ink: Colour) -> None:
    half, y = paint.px(54), size[1] - paint.px(7)
    paint.fill((size[0] // 2 - half, y, size[0] // 2 + half, y + paint.px(4)), ink, 2)


def _dialog(paint: Painter, placed: Sequence[Placed], look: Look) -> None:
    for item in placed:
        if item.layer == DIALOG:
            if item.element.kind == "dialog":
                paint.fill(item.element.box, paint.palette.card, 24)
                paint.label(item, paint.palette.text)
            else:
                DRAWN[item.element.kind](paint, item, look)
