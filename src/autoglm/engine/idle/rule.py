"""By which rule a client makes its next request out of the last one and the answer, and how that is learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoglm.engine.idle.replies import OPEN_AUTOGLM, Reply, learn_reply
from autoglm.engine.idle.shadow import Parts, images_of, kinds_of
from autoglm.messages import ChatMessage, TextPart

_JOINTS = ("", "\n", "\n\n", " ")
_MOST_TEXT = 256


@dataclass(frozen=True, slots=True)
class Edit:
    """What becomes of a message made of ``kinds``: parts of it by index, and fixed texts.

    Attributes:
        joint: the result is one string, joined by this; ``None``: it stays a list.
    """

    kinds: tuple[str, ...]
    items: tuple[int | str, ...]
    joint: str | None = None

    def apply(self, message: ChatMessage) -> ChatMessage:
        """The message rewritten; it must be of these kinds."""
        old = message.content
        assert not isinstance(old, str)
        parts: Parts = [old[item] if isinstance(item, int) else TextPart(item) for item in self.items]
        if self.joint is None:
            return ChatMessage(message.role, parts)
        return ChatMessage(message.role, self.joint.join(p.text for p in parts if isinstance(p, TextPart)))


@dataclass(frozen=True, slots=True)
class Rule:
    """How a dialogue grows from one request to the next.

    Attributes:
        kept: newest messages with images that stay as they are; ``None``: all do.
        edits: what becomes of the older ones, by kinds.
        reply: how the answer is written back; ``None``: it is not.
        next_role, next_kinds: of the message that comes after.
    """

    kept: int | None
    edits: tuple[Edit, ...]
    reply: Reply | None
    next_role: str
    next_kinds: tuple[str, ...]

    def predict(self, messages: Sequence[ChatMessage], answer: str) -> list[ChatMessage] | None:
        """What the next request begins with; ``None`` where the rule says nothing."""
        rewritten = list(messages)
        shown = [i for i, message in enumerate(messages) if images_of(message)]
        kept = len(shown) if self.kept is None else self.kept
        for index in shown[: max(0, len(shown) - kept)]:
            edit = next((e for e in self.edits if e.kinds == kinds_of(messages[index])), None)
            if edit is None:
                return None
            rewritten[index] = edit.apply(messages[index])
        if self.reply is None:
            return rewritten
        text = self.reply.write(answer)
        return None if text is None else [*rewritten, ChatMessage("assistant", text)]


PHONE_CLIENT = Rule(0, (Edit(("image", "text"), (1,)),), OPEN_AUTOGLM, "user", ("image", "text"))
"""The Open-AutoGLM client: only the newest turn shows a screen. Tried where nothing is learnt yet."""


def extends(old: Sequence[ChatMessage], new: Sequence[ChatMessage]) -> bool:
    """Whether a request can be the next one of a dialogue: longer, and the same texts in the same roles so far."""
    return len(new) > len(old) and all(
        a.role == b.role and (a == b or _texts(a) in _texts(b)) for a, b in zip(old, new, strict=False)
    )


def learn(
    old: Sequence[ChatMessage], answer: str, new: Sequence[ChatMessage], known: Sequence[Rule] = ()
) -> Rule | None:
    """The rule that made ``new`` out of ``old`` and the ``answer`` to it; ``None`` if none of ours does.

    Args:
        known: rules that are likely; where pairs fit several rules, theirs are taken.
    """
    if not extends(old, new):
        return None
    shown = [i for i, message in enumerate(old) if images_of(message)]
    changed = [i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b]
    if changed != shown[: len(changed)]:
        return None  # something else than the oldest images was touched
    edits: dict[tuple[str, ...], Edit] = {}
    for index in changed:
        edit = _learn_edit(old[index], new[index])
        if edit is None or edits.setdefault(edit.kinds, edit) != edit:
            return None
    for edit in (e for rule in known for e in rule.edits):
        edits.setdefault(edit.kinds, edit)
    kept = len(shown) - len(changed) if changed else _unseen_limit(len(shown), known)
    reply: Reply | None = None
    rest = new[len(old) :]
    if rest[0].role == "assistant":
        replies = [rule.reply for rule in known if rule.reply is not None]
        reply = learn_reply(answer, _texts(rest[0]), replies) if not images_of(rest[0]) else None
        if reply is None or len(rest) < 2:
            return None
        rest = rest[1:]
    return Rule(kept, tuple(edits.values()), reply, rest[0].role, kinds_of(rest[0]))


def _unseen_limit(shown: int, known: Sequence[Rule]) -> int | None:
    """Nothing was dropped: by a likely rule, because there was not enough yet."""
    return next((rule.kept for rule in known if rule.kept is not None and rule.kept >= shown), None)


def _learn_edit(old: ChatMessage, new: ChatMessage) -> Edit | None:
    if isinstance(old.content, str):
        return None
    if isinstance(new.content, str):
        indices = [i for i, part in enumerate(old.content) if isinstance(part, TextPart)]
        texts = [part.text for part in old.content if isinstance(part, TextPart)]
        joint = next((j for j in _JOINTS if j.join(texts) == new.content), None)
        return None if joint is None else Edit(kinds_of(old), tuple(indices), joint)
    items: list[int | str] = []
    for part in new.content:
        index = next((i for i, p in enumerate(old.content) if i not in items and p == part), None)
        if index is not None:
            items.append(index)
        elif isinstance(part, TextPart) and len(part.text) <= _MOST_TEXT:
            items.append(part.text)
        else:
            return None
    return Edit(kinds_of(old), tuple(items))


def _texts(message: ChatMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    return "".join(part.text for part in message.content if isinstance(part, TextPart))
