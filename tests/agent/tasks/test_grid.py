from __future__ import annotations

import pytest

from autoglm.agent.actions import Swipe
from autoglm.agent.devices.simulated import Element
from autoglm.agent.tasks.grid import COLUMNS, ROWS, SWIPES, cell_point, grid_point, target_cell
from autoglm.errors import InvalidInputError

SIZE = (360, 800)


def test_cells_lie_inside_the_screen_and_apart() -> None:
    points = {cell_point(row, column) for row in range(ROWS) for column in range(COLUMNS)}
    assert len(points) == ROWS * COLUMNS
    assert all(0 < x < 1000 and 0 < y < 1000 for x, y in points)


def test_the_cell_under_the_label_is_taken() -> None:
    row = Element("row", (0, 100, 360, 160), "Sound", (60, 118, 140, 142))
    assert target_cell(SIZE, row) == (4, 3)
    assert grid_point(SIZE, row) == cell_point(4, 3)


def test_an_element_between_the_centres_has_no_cell() -> None:
    with pytest.raises(InvalidInputError, match="No cell"):
        target_cell(SIZE, Element("button", (0, 0, 12, 12)))


def test_the_nearest_of_all_cells_is_found() -> None:
    """Against a search over every cell."""
    for left in range(0, 260, 23):
        for top in range(0, 700, 41):
            box = (left, top, left + 90, top + 70)
            text = (left + 7, top + 30, left + 60, top + 60)
            element = Element("button", box, "x", text)
            x, y = grid_point(SIZE, element)
            inside = [
                ((px * 0.36 - (text[0] + text[2]) / 2) ** 2 + (py * 0.8 - (text[1] + text[3]) / 2) ** 2, row, column)
                for row in range(ROWS)
                for column in range(COLUMNS)
                for px, py in [cell_point(row, column)]
                if box[0] + 3 <= px * 0.36 < box[2] - 3 and box[1] + 3 <= py * 0.8 < box[3] - 3
            ]
            assert cell_point(*min(inside)[1:]) == (x, y)


@pytest.mark.parametrize(("way", "across", "down"), [("up", 0, -1), ("down", 0, 1), ("left", -1, 0), ("right", 1, 0)])
def test_swipes_go_the_way_they_are_called(way: str, across: int, down: int) -> None:
    move = SWIPES[way]
    assert isinstance(move, Swipe)
    dx, dy = move.end[0] - move.start[0], move.end[1] - move.start[1]
    assert ((dx > 0) - (dx < 0), (dy > 0) - (dy < 0)) == (across, down)
