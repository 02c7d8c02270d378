"""When drafting pays: how often guesses of each kind come true, what a step of so many rows costs, and what follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_FIRST_RATE, _SLOWEST = 0.5, 0.02
_ROW_SHARE = 0.15
"""What a further row is taken to cost, in steps of one row, until it was measured."""
_STRIDE, _FIRST_AT_MOST = 0.05, 3.0
_RENEW_AFTER, _FORGET_AFTER, _FORGET = 16, 128, 0.95
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
        self._seconds: dict[int, float] = {}
        self._counts: dict[int, int] = {}
        self._max_rows = max_rows
        self._estimates: dict[int, float] = {}
        """Those that were asked for; the measured ones change a little with every step, these now and then."""
        self._observed = 0

    def __getitem__(self, rows: int) -> float:
        """In some unit: only quotients mean something."""
        rows = min(rows, self._max_rows)
        found = self._estimates.get(rows)
        if found is None:
            found = self._estimates[rows] = _estimate(sorted(self._seconds.items()), rows)
        return found

    def observe(self, rows: int, seconds: float) -> None:
        """A step of only decoding rows took so long."""
        known = self._seconds.get(rows)
        count = self._counts[rows] = self._counts.get(rows, 0) + 1
        if known is None:
            # One step that something else held up must not rule this number of rows out.
            self._seconds[rows] = min(seconds, _FIRST_AT_MOST * self[rows]) if self._seconds else seconds
        else:
            # Up or down by a share: the median. Small steps once it is about right.
            stride = max(_STRIDE, 0.5 / count)
            self._seconds[rows] = known * (1 + stride) if seconds > known else known / (1 + stride)
        self._observed += 1
        if self._observed % _FORGET_AFTER == 0:
            self._forget()
        if known is None or self._observed % _RENEW_AFTER == 0:
            self._estimates.clear()

    def _forget(self) -> None:
        """What looks too dear is not tried again by itself: it looks a little cheaper every time, until it is."""
        least = min(self._seconds)
        for rows in self._seconds:
            if rows != least:
                self._seconds[rows] *= _FORGET


def _estimate(known: Sequence[tuple[int, float]], rows: int) -> float:
    """By a straight line between the measured numbers of rows around it, or by shape from the nearest one, if any."""
    if not known:
        return _shape(rows)
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
