"""Placing elements on a screen: positions in dp (a screen is 360 dp wide), labels measured and kept whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .catalog import label
from .elements import Box, Element
from .fonts import line_height, text_width
from .state import PhoneState
from .world import World

Effect = Callable[[PhoneState], None]
BAR_TOP, BAR_BOTTOM = 30, 84
LIST_TOP = 90
KEYBOARD = 264
MIN_SIZE = 16
HIDDEN, DIALOG = -1, 1
"""Layers beside the page's own 0: partly covered and so not readable, and on top."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An element with what the renderer and the state machine need beside it.

    Attributes:
        size: of the label in pixels.
        art: what picture belongs to it (an icon's app, a person, a card's kind); of a scroll bar "first row/last first
            row/rows that fit"; "" for none.
        lines: the label as drawn, one entry a line.
        tap, hold: what a tap and a long press change; None for nothing.
        layer: 0 page, ``DIALOG`` over it, ``HIDDEN`` drawn but partly covered: not among the elements.
    """

    element: Element
    size: int
    art: str = ""
    lines: tuple[str, ...] = ()
    tap: Effect | None = None
    hold: Effect | None = None
    layer: int = 0


class Layout:
    """Collects the elements of one screen."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.spec = world.spec
        self.scale = world.spec.width / 360
        self.height = world.spec.height / self.scale
        self.items: list[Placed] = []

    def px(self, dp: float) -> int:
        """Pixels of ``dp``."""
        return round(dp * self.scale)

    def box(self, left: float, top: float, right: float, bottom: float) -> Box:
        """A box in pixels from dp."""
        return self.px(left), self.px(top), self.px(right), self.px(bottom)

    def word(self, concept: str) -> str:
        """The label of a concept in the phone's language."""
        return label(concept, self.spec.language)

    def add(
        self,
        kind: str,
        box: tuple[float, float, float, float],
        *,
        concept: str = "",
        text: str = "",
        state: str = "",
        size: float = 22,
        align: str = "left",
        pad: tuple[float, float] = (0, 0),
        area: tuple[float, float, float, float] | None = None,
        lines: int = 1,
        art: str = "",
        tap: Effect | None = None,
        hold: Effect | None = None,
        layer: int = 0,
    ) -> None:
        """Add one element.

        Args:
            kind: of ``KINDS``.
            box: left, top, right, bottom in dp.
            concept, text: the label: a concept of the catalogue, or free text.
            state: of the element.
            size: of the label in dp at font scale 1; made smaller where the label would not fit.
            align: "left" or "center" inside the label's area.
            pad: dp left free before and after the label.
            area: where the label stands, in dp; the box without the padding by default.
            lines: how many lines a free text may take; what does not fit ends in an ellipsis.
            art, tap, hold, layer: see ``Placed``.
        """
        text = self.word(concept) if concept else text
        pixels = self.box(*box)
        place = self.box(*area) if area else self.box(box[0] + pad[0], box[1], box[2] - pad[1], box[3])
        drawn, fitted = self.fit(text, round(size * self.scale * self.spec.font_scale), place[2] - place[0], lines)
        element = Element(
            kind,
            pixels,
            text,
            _text_box(drawn, fitted, place, align) if text else pixels,
            concept,
            state,
            target=tap is not None or hold is not None,
        )
        self.items.append(Placed(element, fitted, art, drawn, tap, hold, layer))

    def fit(self, text: str, size: int, width: int, lines: int) -> tuple[tuple[str, ...], int]:
        """The lines ``text`` takes within ``width`` pixels, and the size at which it fits."""
        smallest = min(size, round(MIN_SIZE * self.scale))
        while lines == 1 and size > smallest and text_width(text, size) > width:
            size -= 1
        drawn: list[str] = []
        rest = text
        while rest and len(drawn) < lines:
            count = len(rest)
            while count > 1 and text_width(rest[:count], size) > width:
                count -= 1
            drawn.append(rest[:count])
            rest = rest[count:]
        if rest:
            last = drawn[-1]
            while len(last) > 1 and text_width(f"{last}…", size) > width:
                last = last[:-1]
            drawn[-1] = f"{last}…"
        return tuple(drawn), size

    def width_of(self, text: str, size: float) -> float:
        """Width in dp of a free text set at ``size`` dp."""
        return text_width(text, round(size * self.scale * self.spec.font_scale)) / self.scale


def _text_box(lines: tuple[str, ...], size: int, place: Box, align: str) -> Box:
    width = max(text_width(line, size) for line in lines)
    height = line_height(size) * len(lines)
    left = place[0] if align == "left" else (place[0] + place[2] - width) // 2
    top = (place[1] + place[3] - height) // 2
    return left, top, left + width, top + height
