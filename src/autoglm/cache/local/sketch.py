"""The twin's frequency sketch; the same counters as ``native/sketch.h``, bit for bit."""

from __future__ import annotations

_ROWS = 4
_BLOCK = 8
_SAMPLES_PER_ENTRY = 10
_HALF = 0x7777777777777777
_M32 = 0xFFFFFFFF


def mix(hashed: int) -> int:
    """The 32 bits of a key's ``hash()`` that decide everything (Fibonacci hashing)."""
    return (hashed * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) >> 32


def remix(mixed: int, factor: int) -> int:
    """Other bits of the same key."""
    mixed = (mixed ^ mixed >> 15) * factor & _M32
    return mixed ^ mixed >> 13


class Sketch:
    """Count-min of 4-bit counters, 16 per entry, halved after ten counts per entry."""

    __slots__ = ("_blocks", "_counted", "_limit", "_words")

    def __init__(self, entries: int) -> None:
        self._blocks = -(-entries // _BLOCK) or 1
        self._words = [0] * (self._blocks * _BLOCK)
        self._counted = 0
        self._limit = max(entries, _BLOCK) * _SAMPLES_PER_ENTRY

    def frequency(self, mixed: int) -> int:
        """0 to 15."""
        base = (mixed * self._blocks >> 32) * _BLOCK
        choice = remix(mixed, 0x85EBCA6B) >> 12
        lowest = 15
        for row in range(_ROWS):
            word = self._words[base + 2 * row + (choice & 1)]
            lowest = min(lowest, word >> ((choice >> 1 & 15) * 4) & 15)
            choice >>= 5
        return lowest

    def count(self, mixed: int, uses: int = 1) -> None:
        """One more use; ``uses`` of all have passed since the last one that was counted."""
        base = (mixed * self._blocks >> 32) * _BLOCK
        choice = remix(mixed, 0x85EBCA6B) >> 12
        for row in range(_ROWS):
            index = base + 2 * row + (choice & 1)
            shift = (choice >> 1 & 15) * 4
            if self._words[index] >> shift & 15 != 15:
                self._words[index] += 1 << shift
            choice >>= 5
        self._counted += uses
        if self._counted >= self._limit:
            self._words = [word >> 1 & _HALF for word in self._words]
            self._counted //= 2
