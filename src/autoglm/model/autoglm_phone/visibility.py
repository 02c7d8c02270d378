"""Which tokens may look at which images.

The rule: a token attends to the images of its own turn, and to none once that turn's image has been dropped.
A turn is a user message with the assistant reply that follows it; it begins at a token of
``turn_start_token_ids`` (``<|system|>``, ``<|user|>``, ``<|observation|>``) and ends where the next one begins.
Text whose turns hold no image has therefore never seen one, and its keys and values depend on tokens alone:
that is what makes reusing them exact.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from autoglm.errors import InvalidInputError

OPEN_END = sys.maxsize
"""``end`` of the last turn: tokens generated later belong to it."""


class TurnSpan(NamedTuple):
    """Positions ``[start, end)`` of one turn and the indices of the images visible there, in prompt order."""

    start: int
    end: int
    images: tuple[int, ...]


def visible_spans(
    token_ids: Sequence[int], image_starts: Sequence[int], turn_start_token_ids: Collection[int]
) -> list[TurnSpan]:
    """Cut a sequence into its turns; together they cover ``[0, OPEN_END)`` without a gap.

    Args:
        token_ids: the prompt. Text before the first turn (``[gMASK]<sop>``) forms a span of its own.
        image_starts: position of each image's placeholder, ascending; an entry's index is the image's index.
        turn_start_token_ids: tokens that open a turn.

    Raises:
        InvalidInputError: an image position outside the sequence, or positions not ascending.
    """
    length = len(token_ids)
    previous = -1
    for start in image_starts:
        if not previous < start < length:
            raise InvalidInputError(
                f"image position {start} must lie after {previous} and before the prompt's end {length}",
                field="image_starts",
                limit=length,
                value=start,
            )
        previous = start
    opening = frozenset(turn_start_token_ids)
    starts = [0, *(at for at, token in enumerate(token_ids) if at and token in opening)]
    spans: list[TurnSpan] = []
    image = 0
    for start, end in zip(starts, [*starts[1:], OPEN_END], strict=True):
        first = image
        while image < len(image_starts) and image_starts[image] < end:
            image += 1
        spans.append(TurnSpan(start, end, tuple(range(first, image))))
    return spans


def spans_of_rows(spans: Iterable[TurnSpan], begin: int, end: int) -> list[TurnSpan]:
    """The parts of ``spans`` that have images and lie in positions ``[begin, end)``, clipped to them."""
    clipped = (TurnSpan(max(s.start, begin), min(s.end, end), s.images) for s in spans if s.images)
    return [s for s in clipped if s.start < s.end]
