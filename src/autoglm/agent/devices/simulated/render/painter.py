"""A canvas that knows dp, the theme's colours and how to set labels."""

from __future__ import annotations

from PIL import Image

from autoglm.agent.devices.simulated.elements import Box
from autoglm.agent.devices.simulated.fonts import line_height, text_mask, text_width
from autoglm.agent.devices.simulated.layout import Placed
from autoglm.agent.devices.simulated.spec import PhoneSpec

from .palette import Colour, Palette
from .shapes import glyph, rounded


class Painter:
    """Draws on one RGB image."""

    def __init__(self, image: Image.Image, spec: PhoneSpec, palette: Palette) -> None:
        self.image = image
        self.scale = spec.width / 360
        self.font_scale = spec.font_scale
        self.palette = palette

    def px(self, dp: float) -> int:
        """Pixels of ``dp``."""
        return round(dp * self.scale)

    def fill(self, box: Box, colour: Colour, radius: float = 0) -> None:
        """A rounded rectangle; ``radius`` in dp."""
        if box[2] <= box[0] or box[3] <= box[1]:
            return
        if radius == 0:
            self.image.paste(colour, box)
        else:
            self.image.paste(colour, box[:2], rounded(box[2] - box[0], box[3] - box[1], self.px(radius)))

    def border(self, box: Box, colour: Colour, inside: Colour, radius: float, width: float) -> None:
        """A rounded rectangle with an edge of ``width`` dp."""
        edge = max(1, self.px(width))
        self.fill(box, colour, radius)
        self.fill((box[0] + edge, box[1] + edge, box[2] - edge, box[3] - edge), inside, radius - width)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """A disc around a point in pixels; ``radius`` in dp."""
        r = self.px(radius)
        self.fill((round(x) - r, round(y) - r, round(x) + r, round(y) + r), colour, radius + 1)

    def sign(self, name: str, x: float, y: float, size: float, colour: Colour) -> None:
        """A glyph, ``size`` dp wide, its centre at a point in pixels."""
        side = self.px(size)
        self.image.paste(colour, (round(x - side / 2), round(y - side / 2)), glyph(name, side))

    def label(self, item: Placed, colour: Colour, shadow: Colour | None = None) -> None:
        """The label of an element where its text box is."""
        box = item.element.text_box
        if not item.lines or box is None:
            return
        height = line_height(item.size)
        for index, line in enumerate(item.lines):
            left = box[0]
            if len(item.lines) == 1:
                left = (box[0] + box[2] - text_width(line, item.size)) // 2
            spot = (left, box[1] + index * height)
            if shadow is not None:
                self.image.paste(shadow, (spot[0] + 1, spot[1] + 1), text_mask(line, item.size))
            self.image.paste(colour, spot, text_mask(line, item.size))

    def small(self, text: str, right: float, middle: float, size: float, colour: Colour) -> None:
        """A text that ends at ``right`` (pixels), centred on ``middle``."""
        pixels = round(size * self.scale * self.font_scale)
        mask = text_mask(text, pixels)
        self.image.paste(colour, (round(right) - mask.width, round(middle - mask.height / 2)), mask)
