"""What the engine remembers of dialogues between their requests: messages without pictures, rule, end of the chain.

A request belongs to the dialogue it names; without a name, to the one whose texts it extends, among those that begin
alike. A new request tells how the client rewrote the old one, and which images it dropped.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from autoglm.cache import KVCache, Node, SessionHints, VisualCache
from autoglm.engine.idle.replay import Answer
from autoglm.engine.idle.rule import PHONE_CLIENT, Rule, extends, learn
from autoglm.engine.idle.shadow import Shadow, images_of
from autoglm.engine.sequence import Sequence
from autoglm.messages import ChatMessage, TextPart
from autoglm.model.context import ImageFeatures

Key = tuple[str, str]
"""(salt, name of the dialogue or fingerprint of its beginning)"""
_MOST_RULES = 256


@dataclass(slots=True, eq=False)
class Dialogue:
    """One dialogue at its newest request.

    Attributes:
        rule: how the request before became this one; ``None``: not known.
        answer: once it has ended. leaf: last whole block of its chain.
        ahead: identities of the prefix computed for the next request, of which the first ``ahead_known`` were there.
        before: the same of the request before this one: what this one was expected to begin with.
    """

    key: Key
    shadow: Shadow
    rule: Rule | None = None
    answer: Answer | None = None
    leaf: Node | None = None
    ahead: array[int] = field(default_factory=lambda: array("q"))
    ahead_known: int = 0
    before: array[int] = field(default_factory=lambda: array("q"))
    before_known: int = 0

    @property
    def salt(self) -> str:
        return self.key[0]


class Dialogues:
    """Bounded: at most ``most`` dialogues and ``most_chars`` characters; who asked longest ago is forgotten.

    Not thread-safe: the engine's loop owns it.

    Attributes:
        dropped_images: since start, images that a dialogue's next request no longer had.
    """

    def __init__(
        self,
        kv: KVCache,
        visual: VisualCache[ImageFeatures],
        hints: SessionHints,
        *,
        drop: bool = True,
        most: int = 512,
        most_chars: int = 2**24,
    ) -> None:
        self._kv = kv
        self._visual = visual
        self._hints = hints
        self._drop = drop
        self._most, self._most_chars = most, most_chars
        self._chars = 0
        self._resting: dict[Key, list[Dialogue]] = {}
        self._order: OrderedDict[Dialogue, None] = OrderedDict()
        self._live: dict[str, Dialogue] = {}
        self._rules: OrderedDict[str, Rule] = OrderedDict()
        self._shown: Counter[tuple[str, bytes]] = Counter()
        self.dropped_images = 0

    def __len__(self) -> int:
        return len(self._order)

    def begin(self, sequence: Sequence, shadow: Shadow) -> Dialogue | None:
        """A request arrived; returns the dialogue it goes on with, which is over."""
        name = _name(sequence.session) if sequence.session else fingerprint(shadow.messages)
        key = (sequence.salt, name)
        dialogue = Dialogue(key, shadow)
        old, rule = self._predecessor(key, shadow)
        if old is not None:
            self._forget(old)
            dialogue.rule = rule or old.rule
            dialogue.before, dialogue.before_known = old.ahead, old.ahead_known
        dialogue.rule = dialogue.rule or self._rules.get(key[0]) or _first_guess(shadow)
        if rule is not None:
            self._rules[key[0]] = rule
            self._rules.move_to_end(key[0])
            if len(self._rules) > _MOST_RULES:
                self._rules.popitem(last=False)
        self._live[sequence.request_id] = dialogue
        self._shown.update(self._images(dialogue))
        if old is not None:
            self._dropped(old, dialogue, sequence)
        return old

    def end(self, sequence: Sequence, answer: Answer) -> Dialogue | None:
        """The request was answered."""
        dialogue = self._live.pop(sequence.request_id, None)
        if dialogue is None:
            return None
        dialogue.answer, dialogue.leaf = answer, sequence.leaf
        if dialogue.leaf is not None:
            self._kv.branches.end(dialogue.leaf)
        self._resting.setdefault(dialogue.key, []).append(dialogue)
        self._order[dialogue] = None
        self._chars += dialogue.shadow.chars
        while len(self._order) > self._most or (self._chars > self._most_chars and len(self._order) > 1):
            self._forget(next(iter(self._order)))
            # Its images stay where they are in their caches: nobody said that they are not shown any more.
        return dialogue

    def abandon(self, request_id: str) -> None:
        """The request was cancelled or failed."""
        dialogue = self._live.pop(request_id, None)
        if dialogue is not None:
            self._shown.subtract(self._images(dialogue))
            self._shown += Counter()

    def purge(self, session: str) -> list[Dialogue]:
        """Forget what is remembered of a named session; returns it."""
        found = [d for (_, name), ds in self._resting.items() if name == _name(session) for d in ds]
        for dialogue in found:
            self._forget(dialogue)
        return found

    def resting(self, dialogue: Dialogue) -> bool:
        """Whether its answer is its newest state."""
        return dialogue in self._order

    def _predecessor(self, key: Key, shadow: Shadow) -> tuple[Dialogue | None, Rule | None]:
        """The latest that this can be the next request of; one whose answer explains the new messages goes first."""
        found: Dialogue | None = None
        for old in reversed(self._resting.get(key, ())):
            if not extends(old.shadow.messages, shadow.messages):
                continue
            known = [r for r in (old.rule, self._rules.get(key[0]), PHONE_CLIENT) if r is not None]
            text = old.answer.text if old.answer is not None else ""
            rule = learn(old.shadow.messages, text, shadow.messages, known)
            if rule is not None:
                return old, rule
            found = found or old
        return found, None

    def _forget(self, dialogue: Dialogue) -> None:
        del self._order[dialogue]
        siblings = self._resting[dialogue.key]
        siblings.remove(dialogue)
        if not siblings:
            del self._resting[dialogue.key]
        self._chars -= dialogue.shadow.chars
        if dialogue.leaf is not None:
            self._kv.branches.leave(dialogue.leaf)
        self._shown.subtract(self._images(dialogue))
        self._shown += Counter()  # without those at zero

    def _images(self, dialogue: Dialogue) -> list[tuple[str, bytes]]:
        return [(dialogue.salt, digest) for digest in dialogue.shadow.images]

    def _dropped(self, old: Dialogue, new: Dialogue, sequence: Sequence) -> None:
        """What only images needed that are gone is the first to be evicted."""
        gone = [digest for digest in old.shadow.images if digest not in new.shadow.images]
        self.dropped_images += len(gone)
        if not gone or not self._drop:
            return
        for digest in gone:
            if (new.salt, digest) not in self._shown:
                self._visual.drop((new.salt, digest))
        if old.leaf is not None:
            shared = self._kv.branches.drop(old.leaf, new.salt, sequence.identities)
            if sequence.session:
                self._hints.note((new.salt, sequence.session), shared)  # its time goes on, for what is left


def fingerprint(messages: tuple[ChatMessage, ...]) -> str:
    """Of a dialogue's first messages, up to the first user's; images do not count, as they may be dropped later."""
    digest = hashlib.sha256()
    for message in messages:
        content = message.content
        texts = [content] if isinstance(content, str) else [p.text for p in content if isinstance(p, TextPart)]
        for piece in (message.role, *texts):
            raw = piece.encode("utf-8", "surrogatepass")
            digest.update(len(raw).to_bytes(8, "little") + raw)
        if message.role == "user":
            break
    return digest.hexdigest()


def _name(session: str) -> str:
    return f"session {session}"  # no fingerprint has a blank


def _first_guess(shadow: Shadow) -> Rule | None:
    return PHONE_CLIENT if images_of(shadow.messages[-1]) else None
