"""Reading an output while it is being written: the thought as it grows, and the moment the action is complete."""

from __future__ import annotations

import re

from autoglm.agent.actions import Action
from autoglm.agent.grammar import complete_action, parse_output

MAX_TAIL = 64
"""Characters after a complete action before reading stops: room for closing tags, not for a model that runs on."""
_ENDS = ("</think>", "<answer>")
_CALLS = ("do(", "finish(")
_MARKS = ("<think>", *_ENDS, *_CALLS)
_OPENING = re.compile(r"(?:\s|<think>)*")


class OutputReader:
    """Takes the pieces of one output."""

    def __init__(self) -> None:
        self.text = ""
        self.action: Action | None = None
        """The action, from the piece on that completed it. The last word is :meth:`finish`'s."""
        self._complete_at = 0
        self._thought_over = False
        self._shown = 0

    def feed(self, piece: str) -> str:
        """Add a piece; returns the thought's new text, without tags."""
        self.text += piece
        if self.action is None and ")" in piece:
            self.action = complete_action(self.text)
            self._complete_at = len(self.text)
        return self._new_thought()

    @property
    def running_on(self) -> bool:
        """The action is complete and the model still writes: reading on would gain nothing."""
        return self.action is not None and len(self.text) - self._complete_at > MAX_TAIL

    def finish(self) -> tuple[str, Action]:
        """Thought and action of the whole output.

        Raises:
            ActionParseError: see :func:`autoglm.agent.grammar.parse_output`.
        """
        return parse_output(self.text)

    def _new_thought(self) -> str:
        """What may be shown by now: a piece of a tag is held back until it is known not to be one."""
        if self._thought_over:
            return ""
        opening = _OPENING.match(self.text)
        begin = opening.end() if opening else 0
        # Directly behind <think> it is no action yet (see the grammar's _thought), but a thought that speaks of one.
        if self.text.startswith(_CALLS, begin) and not self.text.endswith("<think>", 0, begin):
            self._thought_over = True
            return ""
        ends = [at for at in (self.text.find(tag, begin) for tag in _ENDS) if at >= 0]
        if ends:
            self._thought_over = True
            end = min(ends)
        else:
            end = len(self.text) - _held_back(self.text[begin:])
        start = max(self._shown, begin)
        self._shown = max(end, start)
        return self.text[start : self._shown]


def _held_back(text: str) -> int:
    """Length of the longest end of ``text`` that may grow into a mark; a call counts only where the text begins."""
    for length in range(min(len(text), max(map(len, _MARKS))), 0, -1):
        end = text[-length:]
        marks = _MARKS if length == len(text) else ("<think>", *_ENDS)
        if any(mark.startswith(end) for mark in marks):
            return length
    return 0
