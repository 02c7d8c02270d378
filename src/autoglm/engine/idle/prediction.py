"""From what the next request will begin with to the tokens it will begin with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from autoglm.engine.idle.dialogues import Dialogue
from autoglm.engine.idle.rule import Rule
from autoglm.engine.idle.shadow import Parts, outline
from autoglm.messages import ChatMessage, ImagePart, TextPart
from autoglm.prompt import Prompt, PromptBuilder

_UNKNOWN = outline(hashlib.sha256(b"a screen that nobody has seen yet").digest(), (1, 2, 2), 1)
_PROBES = ("0", "x")
"""Beginnings of texts that no tokenizer joins to what stands before in the same way."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Tokens ``[0, known)`` of ``prompt`` are expected; what follows only marks where the unknown begins."""

    prompt: Prompt
    known: int


def predict(builder: PromptBuilder, dialogue: Dialogue) -> Prediction | None:
    """What the dialogue's next prompt begins with; ``None`` if nothing can be said.

    Raises:
        AutoGLMError: the messages the rule makes are none of this model.
    """
    rule, answer = dialogue.rule, dialogue.answer
    if rule is None or answer is None:
        return None
    messages = rule.predict(dialogue.shadow.messages, answer.text)
    if messages is None:
        return None
    images = {**dialogue.shadow.images, _UNKNOWN.digest: _UNKNOWN}
    first, second = (builder.build([*messages, _next_turn(rule, text)], process=images.__getitem__) for text in _PROBES)
    unknown = next((p.start for p in first.images if p.image is _UNKNOWN), len(first.token_ids))
    known = 0
    for a, b in zip(first.token_ids[:unknown], second.token_ids, strict=False):
        if a != b:
            break
        known += 1
    if known >= len(first.token_ids):
        return None
    shown = tuple(p for p in first.images if p.start <= known)
    return Prediction(Prompt(first.token_ids[: known + 1], shown), known)


def _next_turn(rule: Rule, text: str) -> ChatMessage:
    """A message as the next one will be, of unknown content."""
    if rule.next_kinds == ("string",):
        return ChatMessage(rule.next_role, text)
    parts: Parts = [TextPart(text) if kind == "text" else ImagePart(_UNKNOWN.digest) for kind in rule.next_kinds]
    return ChatMessage(rule.next_role, parts)
