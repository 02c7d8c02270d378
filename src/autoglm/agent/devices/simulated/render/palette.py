"""Colours of the two themes."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)
RED: Colour = (224, 62, 56)
ORANGE: Colour = (245, 110, 35)


@dataclass(frozen=True, slots=True)
class Palette:
    """What everything is painted with."""

    dark: bool
    background: Colour
    card: Colour
    text: Colour
    muted: Colour
    line: Colour
    field: Colour
    theirs: Colour
    mine: Colour
    accent: Colour
    soft: Colour

    @classmethod
    def of(cls, theme: str, accent_hue: int) -> Palette:
        """The colours of a theme with an accent."""
        if theme == "dark":
            accent = hsv(accent_hue, 0.62, 0.82)
            return cls(
                True, (13, 14, 18), (30, 32, 39), (238, 240, 244), (150, 154, 164), (50, 53, 61), (42, 45, 53),
                (46, 49, 57), hsv(accent_hue, 0.7, 0.55), accent, hsv(accent_hue, 0.45, 0.34),
            )  # fmt: skip
        accent = hsv(accent_hue, 0.78, 0.80)
        return cls(
            False, (244, 245, 249), (255, 255, 255), (22, 24, 30), (112, 116, 128), (224, 226, 233), (232, 234, 240),
            (255, 255, 255), hsv(accent_hue, 0.28, 0.96), accent, hsv(accent_hue, 0.13, 0.96),
        )  # fmt: skip


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """RGB of a hue in degrees, the rest 0..1."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 360 / 360, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)
