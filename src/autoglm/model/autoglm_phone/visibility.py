"""Which tokens may look at which images.

The rule: a token attends to the images of its own turn, and to none once that turn's image has been dropped.
A turn is a user message with the assistant reply that follows it; it begins at a token of
``turn_start_token_ids`` (``<|system|>``, ``<|user|>``, ``<|observation|>``) and ends where the next one begins.
Text whose turns hold no image has therefore never seen one, and its keys and values depend on tokens alone:
that is what makes reusing them exact.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from autoglm.errors import InvalidInputError

TurnSpan = tuple[int, int | None, tuple[int, ...]]
"""``(start, end, images)``: positions ``[start, end)`` see the images of these indices; the last turn of a sequence
ends at ``None``, because tokens generated later belong to it."""


def visible_spans(
    token_ids: Sequence[int], image_starts: Sequence[int], turn_start_token_ids: Collection[int]
) -> list[TurnSpan]:
    """The turns of a sequence that have images, in order; positions outside them see none.

    Args:
        token_ids: the prompt.
        image_starts: position of each image's placeholder, ascending; an entry's index is the image's index.
        turn_start_token_ids: tokens that open a turn. What stands before the first of them is a turn of its own.

    Raises:
        InvalidInputError: an image position outside the sequence, or positions not ascending.
    """
    length = len(token_ids)
    for before, start in zip((-1, *image_starts), image_starts, strict=False):
        if not before < start < length:
            raise InvalidInputError(
                f"image position {start} must lie after {before} and before the prompt's end {length}",
                field="image_starts",
                limit=length,
                value=start,
            )
    opening = frozenset(turn_start_token_ids)
    starts = [0, *(at for at, token in enumerate(token_ids) if at and token in opening)]
    spans: list[TurnSpan] = []
    image = 0
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        first = image
        while image < len(image_starts) and (end is None or image_starts[image] < end):
            image += 1
        if image > first:
            spans.append((start, end, tuple(range(first, image))))
    return spans
