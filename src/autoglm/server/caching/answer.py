"""A finished answer as it is kept, and what it depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from autoglm.cache.dialogue import Question
from autoglm.cache.tiered import StructCodec
from autoglm.messages import Accepted, ChatMessage, ImagePart, Output, Submit, TextPart
from autoglm.server.protocol import ChatRequest
from autoglm.server.stream import ChoiceEvent, join

_VERSION = 1


class Answer(Struct, frozen=True):
    """Every event of a request that ended well: one output for each choice."""

    accepted: Accepted
    outputs: list[Output]

    @property
    def events(self) -> list[ChoiceEvent]:
        return [self.accepted, *self.outputs]


ANSWERS: StructCodec[Answer] = StructCodec(Answer, "answer", _VERSION)


def answer_of(events: Sequence[ChoiceEvent], choices: int) -> Answer | None:
    """The answer that ``events`` are; ``None`` if a choice has not ended."""
    accepted: Accepted | None = None
    outputs: dict[int, Output] = {}
    for event in events:
        if isinstance(event, Output):
            before = outputs.get(event.index)
            outputs[event.index] = event if before is None else join(before, event)
        elif isinstance(event, Accepted):
            accepted = event
    done = [output for output in outputs.values() if output.finish is not None]
    if accepted is None or len(done) != choices:
        return None
    return Answer(accepted, sorted(done, key=lambda output: output.index))


def is_deterministic(request: ChatRequest) -> bool:
    """Whether the same request must get the same answer: greedy decoding."""
    return request.temperature == 0


def tenant_of(headers: Mapping[str, str], keys: Sequence[str]) -> str:
    """Whose answers they are: the digest of the API key, or everybody's where there are no keys."""
    if not keys:
        return "open"
    _, _, key = headers.get("authorization", "").partition(" ")
    return hashlib.sha256(key.strip().encode()).hexdigest()


def question_of(request: ChatRequest, submit: Submit, tenant: str, model_tag: str) -> Question:
    """A session's question: the last user text, the images, and, as context, all the rest.

    ``user`` and ``cache_salt`` are context, so neither users nor salts share; a purge of the session by its API key
    takes all of them.
    """
    images = b"".join(hashlib.sha256(image).digest() for image in _images(submit.messages))
    return Question(
        tenant=tenant,
        session=request.session or "",
        query=_last_text(submit.messages),
        screen=hashlib.sha256(images).digest() if images else b"",
        context=_digest(request, submit, model_tag, without_query=True),
    )


def whole_key(request: ChatRequest, submit: Submit, tenant: str, model_tag: str) -> str:
    """A digest of everything an answer without a session depends on, and whose it is."""
    images = b"".join(hashlib.sha256(image).digest() for image in _images(submit.messages))
    whole = hashlib.sha256(_digest(request, submit, model_tag, without_query=False) + hashlib.sha256(images).digest())
    whole.update(tenant.encode())
    return whole.hexdigest()


def _digest(request: ChatRequest, submit: Submit, model_tag: str, *, without_query: bool) -> bytes:
    """Of model, sampling, dialogue, user and salt; images by their places only."""
    last = len(submit.messages) - 1 if without_query else -1
    messages = [(m.role, _outline(m, without_query=index == last)) for index, m in enumerate(submit.messages)]
    parts = (model_tag, request.model, submit.n, submit.cache_salt, request.user or "", submit.sampling, messages)
    return hashlib.sha256(msgspec.msgpack.encode(parts, order="deterministic")).digest()


def _outline(message: ChatMessage, *, without_query: bool) -> list[tuple[str, str]]:
    if isinstance(message.content, str):
        outline = [("string", message.content)]
    else:
        outline = [("image", "") if isinstance(p, ImagePart) else ("text", p.text) for p in message.content]
    place = _query_place(message) if without_query else None
    if place is not None:
        outline[place] = ("query", outline[place][0])
    return outline


def _query_place(message: ChatMessage) -> int | None:
    """Which part of a user's message is the query: its last text."""
    if message.role != "user":
        return None
    if isinstance(message.content, str):
        return 0
    texts = [index for index, part in enumerate(message.content) if isinstance(part, TextPart)]
    return texts[-1] if texts else None


def _last_text(messages: Sequence[ChatMessage]) -> str:
    """The query; empty if the last message is not a user's, or has no text."""
    last = messages[-1]
    place = _query_place(last)
    if place is None:
        return ""
    if isinstance(last.content, str):
        return last.content
    part = last.content[place]
    return part.text if isinstance(part, TextPart) else ""


def _images(messages: Sequence[ChatMessage]) -> list[bytes]:
    return [
        part.data
        for message in messages
        if not isinstance(message.content, str)
        for part in message.content
        if isinstance(part, ImagePart)
    ]
