"""Stop strings in streamed text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoglm.errors import InvalidInputError


@dataclass(slots=True)
class _Pattern:
    """One stop string, its failure function (Knuth, Morris, Pratt 1977), how much of it has matched."""

    text: str
    failure: list[int]
    matched: int = 0

    def advance(self, character: str) -> bool:
        """True when ``character`` completes the string."""
        while self.matched and self.text[self.matched] != character:
            self.matched = self.failure[self.matched - 1]
        if self.text[self.matched] == character:
            self.matched += 1
        return self.matched == len(self.text)


class StopChecker:
    """Finds the first stop string in text that arrives in pieces, and lets nothing of it out.

    First means: the one that is complete first; of several complete at the same character, the longest. So
    the result does not depend on how the text is cut. Text is held back only while it may be the start of a
    stop string. Each character costs amortised O(number of stop strings).
    """

    def __init__(self, stop_strings: Sequence[str]) -> None:
        if any(not text for text in stop_strings):
            raise InvalidInputError("a stop string must not be empty", field="stop", value="")
        self._patterns = [_Pattern(text, _failure(text)) for text in dict.fromkeys(stop_strings)]
        self._held = ""
        self._done = False

    def push(self, text: str) -> tuple[str, str | None]:
        """``(emit, matched)``: the text that may go out now, and the stop string if one is complete.

        Text from the start of the stop string on is never emitted. After a match nothing more comes out.
        """
        if self._done:
            return "", None
        if not self._patterns:
            return text, None
        buffer = self._held + text
        for index, character in enumerate(text, start=len(self._held) + 1):
            complete = [p.text for p in self._patterns if p.advance(character)]
            if complete:
                longest = max(complete, key=len)
                self._done, self._held = True, ""
                return buffer[: index - len(longest)], longest
        keep = max(p.matched for p in self._patterns)
        cut = len(buffer) - keep
        self._held = buffer[cut:]
        return buffer[:cut], None

    def flush(self) -> str:
        """The end of the stream: what was held back, which turned out to be no stop string."""
        held, self._held = self._held, ""
        return held


def _failure(text: str) -> list[int]:
    """For each prefix of ``text``: the length of its longest proper suffix that is also its prefix."""
    table = [0] * len(text)
    length = 0
    for index in range(1, len(text)):
        while length and text[index] != text[length]:
            length = table[length - 1]
        if text[index] == text[length]:
            length += 1
        table[index] = length
    return table
