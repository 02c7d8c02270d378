"""Where taps and swipes go: always the centre of a cell of a fixed grid over the screen."""

from __future__ import annotations

from functools import lru_cache

from autoglm.agent.actions import Point, Swipe
from autoglm.agent.devices.simulated import Box, Element
from autoglm.errors import InvalidInputError

COLUMNS, ROWS = 12, 27
MARGIN = 3
"""Pixels a cell's centre must be away from the border of the element it stands for."""


def cell_point(row: int, column: int) -> Point:
    """The centre of a cell in thousandths of the screen."""
    return round((column + 0.5) / COLUMNS * 1000), round((row + 0.5) / ROWS * 1000)


SWIPES: dict[str, Swipe] = {
    "up": Swipe(cell_point(20, 5), cell_point(7, 5)),
    "down": Swipe(cell_point(7, 5), cell_point(20, 5)),
    "left": Swipe(cell_point(13, 10), cell_point(13, 1)),
    "right": Swipe(cell_point(13, 1), cell_point(13, 10)),
}
"""direction of the finger -> the swipe; content follows, so "up" shows what is below."""


def target_cell(phone_size: tuple[int, int], element: Element) -> tuple[int, int]:
    """The cell (row, column) whose centre lies inside the element and nearest to the centre of its label.

    Args:
        phone_size: width and height in pixels.

    Raises:
        InvalidInputError: no cell's centre lies inside the element.
    """
    return _target_cell(phone_size, element.box, element.text_box or element.box)


@lru_cache(maxsize=65536)
def _target_cell(phone_size: tuple[int, int], box: Box, text: Box) -> tuple[int, int]:
    column = _nearest(_CENTRES_ACROSS, phone_size[0], box[0], box[2], text[0] + text[2])
    row = _nearest(_CENTRES_DOWN, phone_size[1], box[1], box[3], text[1] + text[3])
    if row is None or column is None:
        raise InvalidInputError("No cell of the grid lies inside this element.", field="element", value=str(box))
    return row, column


def _nearest(centres: tuple[int, ...], length: int, start: int, stop: int, twice_wanted: int) -> int | None:
    """Index of the centre (in thousandths of ``length``) inside the interval and nearest to the wanted place."""
    places = ((index, centre * length / 1000) for index, centre in enumerate(centres))
    inside = [(abs(at - twice_wanted / 2), index) for index, at in places if start + MARGIN <= at < stop - MARGIN]
    return min(inside)[1] if inside else None


_CENTRES_ACROSS = tuple(cell_point(0, column)[0] for column in range(COLUMNS))
_CENTRES_DOWN = tuple(cell_point(row, 0)[1] for row in range(ROWS))


def grid_point(phone_size: tuple[int, int], element: Element) -> Point:
    """Where to tap an element: the centre of its ``target_cell`` in 0..999."""
    return cell_point(*target_cell(phone_size, element))
