"""From the bytes of a body to a :class:`Submit`, with every mistake named."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import msgspec
from pydantic import ValidationError

from autoglm.errors import InvalidInputError, NotFoundError
from autoglm.messages import ChatMessage, ImagePart, SamplingParams, Submit, TextPart
from autoglm.server.early_action import EARLY_ACTION
from autoglm.server.images import ImageSource
from autoglm.server.protocol import ChatRequest, Message, drop_neutral

_SHOWN = 80
_ROLES = {"developer": "system"}


def parse(body: bytes, served_names: tuple[str, ...]) -> ChatRequest:
    """Raises :class:`InvalidInputError` naming the first field at fault; NaN and infinity are not JSON."""
    try:
        request = ChatRequest.model_validate(drop_neutral(json_object(body)))
    except ValidationError as error:
        raise named(error) from error
    if request.model not in served_names:
        raise NotFoundError(
            f"model {request.model[:_SHOWN]!r} is not served here; there is {', '.join(served_names)}",
            field="model",
            limit=", ".join(served_names),
            value=request.model[:_SHOWN],
        )
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidInputError("top_logprobs needs logprobs: true", field="top_logprobs", value=request.top_logprobs)
    if request.stream_options is not None and not request.stream:
        raise InvalidInputError("stream_options needs stream: true", field="stream_options")
    return request


def json_object(body: bytes) -> dict[str, Any]:
    """Raises :class:`InvalidInputError` for anything else than one JSON object."""
    try:
        raw = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(f"the body is not valid JSON: {error}", field="body") from error
    if not isinstance(raw, dict):
        raise InvalidInputError("the body must be a JSON object", field="body")
    return raw


async def submit_of(request: ChatRequest, images: ImageSource) -> Submit:
    """The engine's form of a request; reads its images."""
    messages = [await _message(m, f"messages[{i}]", images) for i, m in enumerate(request.messages)]
    return Submit(
        id=f"chatcmpl-{uuid4().hex}",
        messages=messages,
        sampling=_sampling(request),
        n=request.n or 1,
        priority=request.priority or 0,
        cache_salt=request.cache_salt or "",
    )


async def _message(message: Message, place: str, images: ImageSource) -> ChatMessage:
    role = _ROLES.get(message.role, message.role)
    if isinstance(message.content, str):
        return ChatMessage(role, message.content)
    parts: list[TextPart | ImagePart] = []
    for index, part in enumerate(message.content):
        if part.type == "text":
            parts.append(TextPart(part.text))
        else:
            data = await images.read(part.image_url.url, f"{place}.content[{index}].image_url.url")
            parts.append(ImagePart(data))
    return ChatMessage(role, parts)


def _sampling(r: ChatRequest) -> SamplingParams:
    stop = (r.stop,) if isinstance(r.stop, str) else tuple(r.stop or ())
    given: dict[str, Any] = {
        "max_tokens": r.max_completion_tokens if r.max_completion_tokens is not None else r.max_tokens,
        "min_tokens": r.min_tokens,
        "temperature": r.temperature,
        "top_p": r.top_p,
        "top_k": None if r.top_k is None else max(r.top_k, 0),
        "min_p": r.min_p,
        "seed": r.seed,
        "frequency_penalty": r.frequency_penalty,
        "presence_penalty": r.presence_penalty,
        "repetition_penalty": r.repetition_penalty,
        "logit_bias": _logit_bias(r.logit_bias) if r.logit_bias else None,
        "logprobs": (r.top_logprobs or 0) if r.logprobs else None,
        "stop_token_ids": tuple(r.stop_token_ids) if r.stop_token_ids else None,
        "include_stop_in_output": r.include_stop_str_in_output,
        "ignore_eos": r.ignore_eos,
        "skip_special_tokens": r.skip_special_tokens,
        "ending": EARLY_ACTION if r.early_action else None,
    }
    params = SamplingParams(stop=stop, **{k: v for k, v in given.items() if v is not None})
    params.validate()
    return params


def _logit_bias(raw: dict[str, float]) -> dict[int, float]:
    try:
        return {int(token): bias for token, bias in raw.items()}
    except ValueError as error:
        raise InvalidInputError("logit_bias: keys must be token ids", field="logit_bias") from error


def named(error: ValidationError) -> InvalidInputError:
    """The first mistake, with its field, limit and value."""
    first = error.errors(include_url=False)[0]
    field = _path(first["loc"])
    value: Any = first.get("input")
    shown = value if isinstance(value, int | float) and not isinstance(value, bool) else repr(value)[:_SHOWN]
    if first["type"] == "extra_forbidden":
        return InvalidInputError(f"{field} is not a known field", field=field)
    context = first.get("ctx", {})
    limit = next((v for k, v in context.items() if isinstance(v, int | float | str) and k != "error"), None)
    return InvalidInputError(f"{field}: {first['msg']}", field=field, limit=limit, value=shown)


def _path(location: tuple[int | str, ...]) -> str:
    """``messages[0].content[1].image_url.url``: without the names of union branches, which are in ``<>``."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part.startswith("<"):
            path += f".{part[:_SHOWN]}" if path else part[:_SHOWN]
    return path or "body"
