"""Which rows of a step stand for images, and which see them."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Seq

from autoglm.engine.scheduler import Chunk
from autoglm.engine.sequence import Sequence
from autoglm.model.context import VisualSpan


def image_rows(chunks: Seq[Chunk]) -> Iterator[tuple[int, int, int, Sequence, int]]:
    """Placeholder rows of a step: (first row, count, first feature row, sequence, image)."""
    row = 0
    for chunk in chunks:
        for index in chunk.sequence.needed_images(chunk.start, chunk.end):
            placed = chunk.sequence.images[index]
            first, last = max(chunk.start, placed.start), min(chunk.end, placed.start + placed.image.num_tokens)
            yield row + first - chunk.start, last - first, first - placed.start, chunk.sequence, index
        row += chunk.count


def seeing_rows(chunks: Seq[Chunk]) -> Iterator[tuple[int, int, Sequence, tuple[int, ...]]]:
    """Rows of a step that see images by cross-attention: (first row, end, sequence, images)."""
    row = 0
    for chunk in chunks:
        for sight in chunk.sequence.sights:
            first, last = sight.overlap(chunk.start, chunk.end)
            if first < last:
                yield row + first - chunk.start, row + last - chunk.start, chunk.sequence, sight.images
        row += chunk.count


def visual_spans(chunks: Seq[Chunk]) -> list[VisualSpan]:
    """Which rows of the step see which images."""
    return [
        VisualSpan(first, last, tuple(sequence.features[i] for i in images))
        for first, last, sequence, images in seeing_rows(chunks)
    ]
