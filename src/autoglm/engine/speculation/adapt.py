"""When drafting pays: how often guesses of each kind come true, what a step of so many rows costs, and what follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_FIRST_RATE, _SLOWEST = 0.5, 0.02
_ROW_SHARE = 0.15
"""What a further row is taken to cost, in steps of one row, until it was measured."""
_STRIDE = 0.05
_FORGET_AFTER, _FORGET = 512, 0.9
MARGIN = 1.05
"""A draft must promise this many times the tokens per second of going without."""


class Rates:
    """Share of guesses that came true, by kind. Every guess counts, also those that were not drafted: a guess is
    checked for nothing against the token that came."""

    def __init__(self, kinds: int) -> None:
        self._rates = [_FIRST_RATE] * kinds
        self._counts = [1] * kinds

    def __getitem__(self, kind: int) -> float:
        return self._rates[kind]

    def observe(self, kind: int, hit: bool) -> None:
        """A guess of ``kind`` was right, or not."""
        count = self._counts[kind] = self._counts[kind] + 1
        self._rates[kind] += max(1 / count, _SLOWEST) * (hit - self._rates[kind])


class StepCosts:
    """Seconds of a step of so many rows: a running median each, between measured ones a straight line.

    Args:
        max_rows: of a step.
    """

    def __init__(self, max_rows: int) -> None:
        self._measured: dict[int, float] = {}
        self._table = [_shape(rows) for rows in range(max_rows + 1)]
        self._asked = 0

    def __getitem__(self, rows: int) -> float:
        """In some unit: only quotients mean something."""
        return self._table[min(rows, len(self._table) - 1)]

    def observe(self, rows: int, seconds: float) -> None:
        """A step of only decoding rows took so long."""
        known = self._measured.get(rows)
        if known is None:
            self._measured[rows] = seconds
        else:
            # Steps up or down by a share: the median, which a step that something else held up does not move far.
            self._measured[rows] = known * (1 + _STRIDE if seconds > known else 1 - _STRIDE)
        self._asked += 1
        if known is None or self._asked % 16 == 0:
            self._rebuild()

    def _rebuild(self) -> None:
        if self._asked % _FORGET_AFTER == 0 and len(self._measured) > 1:
            # What looked too dear is not tried again by itself: let it look a little cheaper until it is.
            least = min(self._measured)
            self._measured = {n: t if n == least else t * _FORGET for n, t in self._measured.items()}
        known = sorted(self._measured.items())
        self._table = [_estimate(known, rows) for rows in range(len(self._table))]


def _estimate(known: Sequence[tuple[int, float]], rows: int) -> float:
    """By a straight line between the measured numbers of rows around it, or by shape from the nearest one."""
    below = [pair for pair in known if pair[0] <= rows]
    above = [pair for pair in known if pair[0] > rows]
    if below and above:
        (n0, t0), (n1, t1) = below[-1], above[0]
        return t0 + (t1 - t0) * (rows - n0) / (n1 - n0)
    nearest, seconds = below[-1] if below else above[0]
    return seconds * _shape(rows) / _shape(nearest)


def _shape(rows: int) -> float:
    return 1 + _ROW_SHARE * max(rows - 1, 0)


def worth(offers: Sequence[tuple[float, int]], base: int, cost: Callable[[int], float]) -> list[int]:
    """Which of the drafted tokens to verify in a step.

    Args:
        offers: (probability that it is reached and right, whose it is), those of one owner in falling order.
        base: rows of the step without any, each of which brings a token.
        cost: of a step by its rows.

    Returns:
        for each chosen token its owner; each owner's first ones are chosen.
    """
    ranked = sorted(offers, key=lambda offer: -offer[0])  # stable, so an owner's stay in order
    tokens = float(base)
    best, chosen = MARGIN * tokens / cost(base), 0
    for count, (probability, _) in enumerate(ranked, 1):
        tokens += probability
        rate = tokens / cost(base + count)
        if rate > best:
            best, chosen = rate, count
    return [owner for _, owner in ranked[:chosen]]
