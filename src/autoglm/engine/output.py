"""From sampled ids to text and an end: detokenizing, stop ids, stop strings, length."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from autoglm.messages import Ending, SamplingParams
from autoglm.prompt import IncrementalDetokenizer, StopChecker, Tokenizer


@dataclass(frozen=True, slots=True)
class Piece:
    """What one token brought. ``reason`` is set on the last piece."""

    text: str
    reason: str | None = None
    matched: str | int | None = None


class _EndingWatch:
    """Looks for the place where an answer is complete; next to nothing is done for most tokens."""

    def __init__(self, ending: Ending) -> None:
        self.name = ending.name
        self._pattern = re.compile(ending.pattern)
        self._character = ending.character
        self._text = ""

    def push(self, text: str) -> str | None:
        """What of ``text`` belongs to the answer, if it completes it."""
        before = len(self._text)
        self._text += text
        if self._character not in text:
            return None
        found = self._pattern.match(self._text)
        return None if found is None else self._text[before : found.end()]


class OutputStream:
    """Text of one choice.

    A stop token gives no text (the client would take ``</answer>`` for a part of the action); a stop string is cut
    off with all that follows, unless the request wants it kept.
    """

    def __init__(
        self, tokenizer: Tokenizer, sampling: SamplingParams, stop_ids: Sequence[int], max_tokens: int
    ) -> None:
        self._detokenizer = IncrementalDetokenizer(tokenizer, skip_special_tokens=sampling.skip_special_tokens)
        self._tokenizer = tokenizer
        self._stops = StopChecker(sampling.stop)
        own = () if sampling.ignore_eos else tuple(stop_ids)
        self._stop_ids = frozenset(own + tuple(sampling.stop_token_ids))
        self._keep = sampling.include_stop_in_output
        self._ending = None if sampling.ending is None else _EndingWatch(sampling.ending)
        self._min_tokens = sampling.min_tokens
        self._max_tokens = max_tokens
        self._count = 0

    def push(self, token: int) -> Piece:
        """Account for one generated token."""
        self._count += 1
        if token in self._stop_ids and self._count > self._min_tokens:
            text = self._end(self._tokenizer.token_bytes(token).decode("utf-8", "replace") if self._keep else "")
            return Piece(text, "stop", token)
        text, matched = self._detokenizer.push(token), None
        if self._count > self._min_tokens:
            text, matched = self._stops.push(text)
        if self._ending is not None and (last := self._ending.push(text)) is not None:
            return Piece(last, "stop", self._ending.name)
        if matched is not None:
            return Piece(text + matched if self._keep else text, "stop", matched)
        if self._count >= self._max_tokens:
            return self._length(text)
        return Piece(text)

    def _end(self, extra: str) -> str:
        text, matched = self._stops.push(self._detokenizer.flush())
        return text + ("" if matched else self._stops.flush()) + extra

    def _length(self, text: str) -> Piece:
        more, matched = self._stops.push(self._detokenizer.flush())
        if matched is not None:
            return Piece(text + more + (matched if self._keep else ""), "stop", matched)
        return Piece(text + more + self._stops.flush(), "length")
