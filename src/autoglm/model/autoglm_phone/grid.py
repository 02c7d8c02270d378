"""Patch grids: a fixed number of visual tokens laid out as rows x columns that suit the image's aspect."""

from __future__ import annotations

import math

from autoglm.errors import ImageError


def factor_grids(num_tokens: int) -> list[tuple[int, int]]:
    """All ``(rows, columns)`` with ``rows * columns == num_tokens``, few rows first."""
    return [(h, num_tokens // h) for h in range(1, num_tokens + 1) if num_tokens % h == 0]


def nearest_grid(height: int, width: int, num_tokens: int) -> tuple[int, int]:
    """The grid whose aspect ratio is nearest to the image's, on a logarithmic scale.

    With 576 tokens a square becomes 24 x 24 and a 1080 x 2400 phone screen 36 rows x 16 columns.

    Raises:
        ImageError: a side below one pixel.
    """
    if height < 1 or width < 1:
        raise ImageError(
            f"an image of {width}x{height} pixels has no area", field="image", limit=1, value=min(height, width)
        )
    aspect = math.log(height / width)
    return min(factor_grids(num_tokens), key=lambda grid: abs(math.log(grid[0] / grid[1]) - aspect))
