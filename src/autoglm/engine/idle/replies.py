"""How a client writes the model's answer back into the dialogue.

The hypotheses are small: the answer is cut in two at a known mark (or not at all), the pieces are trimmed, and fixed
text is put around them. What fits a pair of answer and message with the least fixed text is learnt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Cut = Literal["whole", "action", "thought", "tag"]
Trim = Literal["none", "head", "both", "tags"]
CUTS: tuple[Cut, ...] = ("whole", "action", "thought", "tag")
TRIMS: tuple[Trim, ...] = ("none", "head", "both", "tags")
MOST_FIXED = 64
"""Characters of fixed text at one place; more is taken for something else than a frame."""

_TAG = re.compile(r"</?(?:think|answer)>")


@dataclass(frozen=True, slots=True)
class Reply:
    """``before + head + between + tail + after``; without the head where ``with_head`` is false."""

    cut: Cut
    trim: Trim
    with_head: bool
    before: str = ""
    between: str = ""
    after: str = ""

    @property
    def fixed(self) -> int:
        """Characters of fixed text."""
        return len(self.before) + len(self.between) + len(self.after)

    def write(self, answer: str) -> str | None:
        """The message's text; ``None`` if the answer lacks the mark at which it is to be cut."""
        pieces = _pieces(answer, self.cut, self.trim)
        if pieces is None:
            return None
        head, tail = pieces
        if not self.with_head:
            return self.before + tail + self.after
        return self.before + head + self.between + tail + self.after


OPEN_AUTOGLM = Reply("action", "head", True, "<think>", "</think><answer>", "</answer>")
"""zai-org/Open-AutoGLM, ``phone_agent/model/client.py`` and ``phone_agent/agent.py``."""


def learn_reply(answer: str, written: str, known: Iterable[Reply] = ()) -> Reply | None:
    """The rule by which ``answer`` became ``written``; one of ``known`` if it does, in their order."""
    for reply in known:
        if reply.write(answer) == written:
            return reply
    found = [reply for cut in CUTS for trim in TRIMS for reply in _fitting(answer, written, cut, trim)]
    # Who frames an answer mostly trims it, too; whether this one does may not show in a single answer.
    return min(found, key=lambda r: (r.fixed, r.fixed > 0 and r.trim in ("none", "head")), default=None)


def _fitting(answer: str, written: str, cut: Cut, trim: Trim) -> list[Reply]:
    pieces = _pieces(answer, cut, trim)
    if pieces is None or not pieces[1]:
        return []
    head, tail = pieces
    at = written.rfind(tail)
    if at < 0:
        return []
    front, after = written[:at], written[at + len(tail) :]
    found = [Reply(cut, trim, False, front, "", after)]
    if head and (begin := front.find(head)) >= 0:
        found.append(Reply(cut, trim, True, front[:begin], front[begin + len(head) :], after))
    return [r for r in found if max(len(r.before), len(r.between), len(r.after)) <= MOST_FIXED]


def _pieces(answer: str, cut: Cut, trim: Trim) -> tuple[str, str] | None:
    pieces = _CUT[cut](answer)
    if pieces is None:
        return None
    head, tail = pieces
    if trim == "tags":
        return _TAG.sub("", head).strip(), _TAG.sub("", tail).strip()
    if trim == "none":
        return head, tail
    return head.strip(), tail.strip() if trim == "both" else tail


def _at(mark: str, skip: bool) -> Callable[[str], tuple[str, str] | None]:
    def cut(answer: str) -> tuple[str, str] | None:
        head, found, tail = answer.partition(mark)
        return (head, tail if skip else found + tail) if found else None

    return cut


def _at_action(answer: str) -> tuple[str, str]:
    """As the client: ``finish(`` anywhere goes before ``do(``, then the tag; without any, all of it is the action."""
    for mark in ("finish(message=", "do(action="):
        head, found, tail = answer.partition(mark)
        if found:
            return head, found + tail
    head, found, tail = answer.partition("<answer>")
    if found:
        return _TAG.sub("", head), tail.replace("</answer>", "").strip()
    return "", answer


_CUT: dict[Cut, Callable[[str], tuple[str, str] | None]] = {
    "whole": lambda answer: ("", answer),
    "action": _at_action,
    "thought": _at("</think>", skip=True),
    "tag": _at("<answer>", skip=True),
}
