"""A step's work in micro-batches of equal predicted time.

Decode rows cannot be divided: they are dealt out so that their numbers differ by one at most. Prefill chunks can: what
they bring fills every micro-batch up to one level, so later pieces are shorter as their context grows (chunked
prefill). Pieces of one chunk stand in order in micro-batches that follow one another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RowCost:
    """Predicted time of tokens: ``row`` for each, and ``pair`` for each (token, attended token). Any unit."""

    row: float
    pair: float = 0.0

    def time(self, start: int, count: int) -> float:
        """Of tokens ``[start, start + count)``: token ``i`` attends to ``i + 1``."""
        return count * self.row + self.pair * (count * start + count * (count + 1) / 2)

    def count_for(self, start: int, seconds: float) -> int:
        """The number of tokens from ``start`` on whose time is nearest to ``seconds`` (rounded down at a half)."""
        # pair/2 n^2 + (row + pair (start + 1/2)) n = seconds
        linear, quadratic = self.row + self.pair * (start + 0.5), self.pair / 2
        if seconds <= 0 or linear <= 0:
            return 0
        exact = 2 * seconds / (linear + math.sqrt(linear * linear + 4 * quadratic * seconds))
        return math.ceil(exact - 0.5)


@dataclass(frozen=True, slots=True)
class Work:
    """Tokens ``[start, start + count)`` of a sequence; one token is not divided."""

    start: int
    count: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens ``[start, start + count)`` of the work at ``index``."""

    index: int
    start: int
    count: int


def parts_for(works: Sequence[Work], share: int, most: int, smallest: int) -> int:
    """Into how many micro-batches a step is worth splitting.

    Args:
        share: decode rows of one micro-batch: the running sequences, split evenly over those in flight.
        most: for prefill. smallest: tokens of prefill, below which a micro-batch costs more than it hides.
    """
    decodes = sum(1 for work in works if work.count == 1)
    tokens = sum(work.count for work in works if work.count > 1)
    return max(1, -(-decodes // share), min(most, tokens // smallest))


def split(works: Sequence[Work], parts: int, cost: RowCost) -> list[list[Piece]]:
    """At most ``parts`` micro-batches that hold every token once; none is empty."""
    batches: list[list[Piece]] = [[] for _ in range(parts)]
    times = [0.0] * parts
    decodes = [(cost.time(w.start, 1), i) for i, w in enumerate(works) if w.count == 1]
    decodes.sort(key=lambda d: (-d[0], d[1]))
    for at in range(0, len(decodes), parts):
        lightest = sorted(range(parts), key=lambda part: (times[part], part))
        for (seconds, index), part in zip(decodes[at : at + parts], lightest, strict=False):
            batches[part].append(Piece(index, works[index].start, 1))
            times[part] += seconds
    _fill(works, cost, batches, times)
    return [batch for batch in batches if batch]


def _fill(works: Sequence[Work], cost: RowCost, batches: list[list[Piece]], times: list[float]) -> None:
    """Cut the divisible works so that all micro-batches come up to one level."""
    total = sum(cost.time(w.start, w.count) for w in works if w.count > 1)
    level = _level(times, total)
    part, room = 0, level - times[0]
    for index, work in enumerate(works):
        start, end = work.start, work.start + work.count
        while work.count > 1 and start < end:
            last = part == len(batches) - 1
            count = end - start if last else min(end - start, cost.count_for(start, room))
            if count > 0:
                batches[part].append(Piece(index, start, count))
                room -= cost.time(start, count)
                start += count
            if start < end:
                part += 1
                room += max(0.0, level - times[part])  # what was rounded here is made good in the next


def _level(times: Sequence[float], total: float) -> float:
    """The level to which ``total`` fills vessels that hold ``times`` already."""
    ordered = sorted(times)
    for count in range(1, len(ordered) + 1):
        level = (sum(ordered[:count]) + total) / count
        if count == len(ordered) or level <= ordered[count]:
            return level
    return 0.0
