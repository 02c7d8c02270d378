"""A streaming client of an OpenAI-compatible server, with the fields the Open-AutoGLM client sends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from autoglm.agent.dialogue import Message
from autoglm.agent.http_errors import MAX_ERROR_BYTES, error_of_event, error_of_response, retry_pause
from autoglm.agent.sse import event_data
from autoglm.errors import (
    AutoGLMError,
    EngineUnavailableError,
    InvalidInputError,
    ModelServerError,
    RequestTimeoutError,
)

_FEATURES, _EARLY_ACTION = "x-autoglm-features", "early_action"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Where the model is, and how it is asked. Sampling defaults are the client's.

    Attributes:
        base_url: up to and with ``/v1``.
        api_key: sent as a bearer token; never shown.
        connect_timeout: seconds to a connection, and to hand over the request.
        first_token_timeout: seconds from the sent request to the first text.
        idle_timeout: seconds between two pieces.
        total_timeout: seconds for the whole answer.
        retries: further tries after a 429 or 503, which are the only answers that are tried again.
        max_pause: longest ``Retry-After`` in seconds that is waited for; a longer one is an error at once.
        max_characters: of one answer.
        session: name under which the server may remember answers and keep state; ``""``: none. The client has no
            such field.
        early_action: let the server end an answer at its complete action, so that nothing is waited for that follows.
            ``None``: as soon as the server has said that it can. A server that refuses is asked without from then on.
    """

    base_url: str
    model: str = "autoglm-phone-9b"
    api_key: str = field(default="EMPTY", repr=False)
    max_tokens: int = 3000
    temperature: float = 0.0
    top_p: float = 0.85
    frequency_penalty: float = 0.2
    connect_timeout: float = 5.0
    first_token_timeout: float = 60.0
    idle_timeout: float = 30.0
    total_timeout: float = 300.0
    retries: int = 2
    max_pause: float = 10.0
    max_characters: int = 65_536
    session: str = ""
    early_action: bool | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as the server reports them; ``None`` where it does not."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    image_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the answer's text; ``at`` is ``time.perf_counter()`` at its arrival."""

    text: str
    at: float


class Answer:
    """One answer on its way. Iterate :meth:`pieces` once; the other attributes fill as it goes.

    Attributes:
        sent_at: ``time.perf_counter()`` when the request that was answered began to be sent.
        finish_reason, usage: as the server says them; ``usage`` comes last.
    """

    def __init__(self, response: httpx.Response, config: ModelConfig, sent_at: float) -> None:
        self.sent_at = sent_at
        self.finish_reason: str | None = None
        self.usage = Usage()
        self._response = response
        self._config = config

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """The text as it comes.

        Raises:
            RequestTimeoutError: a time limit passed; ``field`` names it.
            ModelServerError: the stream broke off, or is not the protocol's, or is too long.
            AutoGLMError: the server ended the stream with an error of its own.
        """
        loop = asyncio.get_running_loop()
        config, began = self._config, loop.time()
        events = event_data(self._response.aiter_bytes())
        limit, name, characters = config.first_token_timeout, "first_token_timeout", 0
        deadline = began + limit
        while True:
            end, label = min((deadline, name), (began + config.total_timeout, "total_timeout"))
            data = await _next_event(events, end, label, config)
            if data is None or data == b"[DONE]":
                break
            text = self._take(data)
            if text:
                characters += len(text)
                if characters > config.max_characters:
                    raise ModelServerError(
                        f"the answer is longer than {config.max_characters} characters",
                        field="max_characters",
                        limit=config.max_characters,
                        value=characters,
                    )
                yield Piece(text, time.perf_counter())
                name = "idle_timeout"
            if name == "idle_timeout":
                deadline = loop.time() + config.idle_timeout
        if self.finish_reason is None:
            raise ModelServerError("the model's server broke off the answer before its end", field="finish_reason")

    def _take(self, data: bytes) -> str:
        """One chunk: its text; reason and usage are kept."""
        try:
            chunk = msgspec.json.decode(data)
            if "error" in chunk:
                raise error_of_event(chunk)
            if chunk.get("usage"):
                self.usage = _usage_of(chunk["usage"])
            text = ""
            for choice in (chunk.get("choices") or [])[:1]:
                self.finish_reason = choice.get("finish_reason") or self.finish_reason
                text = choice.get("delta", {}).get("content") or ""
            if not isinstance(text, str):
                raise TypeError("content is not text")
        except (msgspec.DecodeError, UnicodeDecodeError, AttributeError, TypeError) as error:
            shown = data[:80].decode("utf-8", "replace")
            raise ModelServerError("the answer holds what is not a chunk", field="data", value=shown) from error
        return text


class ModelClient:
    """Asks one server. Close it when done."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        # Reading has its own limits (see Answer.pieces); a read limit here would also cut waiting for the first token.
        limits = httpx.Timeout(config.connect_timeout, read=None)
        headers = {"Authorization": f"Bearer {config.api_key}", "Content-Type": "application/json"}
        self._early_action = bool(config.early_action)
        self._refused = False
        self._url = _endpoint(config.base_url)
        self._http = httpx.AsyncClient(timeout=limits, headers=headers)

    async def close(self) -> None:
        """Drop the connections."""
        await self._http.aclose()

    def encode(self, messages: Sequence[Message], temperature: float | None = None) -> bytes:
        """The request's body: the client's fields, plus ``stream_options`` so that token counts come back."""
        config = self.config
        body: dict[str, Any] = {
            "messages": messages,
            "model": config.model,
            "max_tokens": config.max_tokens,
            "temperature": config.temperature if temperature is None else temperature,
            "top_p": config.top_p,
            "frequency_penalty": config.frequency_penalty,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if config.session:
            body["session"] = config.session
        if self._early_action:
            body["early_action"] = True
        return msgspec.json.encode(body)

    @asynccontextmanager
    async def ask(self, body: bytes) -> AsyncIterator[Answer]:
        """Send a body of :meth:`encode`; the connection is closed at the end, which cancels what still runs there.

        Raises:
            EngineUnavailableError: no connection, or the server says 503 to every try.
            OverloadedError: the server says 429 to every try.
            AuthenticationError, NotFoundError, InvalidInputError, RequestTimeoutError, ModelServerError: by status.
        """
        tries = self.config.retries + 1
        attempt = 0
        while True:
            attempt += 1
            sent_at = time.perf_counter()
            response = await self._send(body)
            try:
                if response.status_code == httpx.codes.OK:
                    self._note_features(response.headers)
                    yield Answer(response, self.config, sent_at)
                    return
                error = error_of_response(response.status_code, response.headers, await self._error_body(response))
            except httpx.TransportError as lost:
                raise ModelServerError("the connection to the model's server broke", field="base_url") from lost
            finally:
                await response.aclose()
            if _may_be_the_field(error) and (plain := self._without_extension(body)) is not None:
                body, attempt = plain, attempt - 1  # a refusal of the field is no try
                continue
            pause = retry_pause(error)
            if pause is None or pause > self.config.max_pause or attempt == tries:
                raise error
            await asyncio.sleep(pause)

    def _note_features(self, headers: httpx.Headers) -> None:
        if self.config.early_action is None and not self._refused:
            self._early_action = _EARLY_ACTION in headers.get(_FEATURES, "").replace(",", " ").split()

    def _without_extension(self, body: bytes) -> bytes | None:
        """``body`` as any server takes it; ``None`` if it is so already."""
        fields = msgspec.json.decode(body)
        if fields.pop(_EARLY_ACTION, None) is None:
            return None
        self._early_action, self._refused = False, True
        return msgspec.json.encode(fields)

    async def _send(self, body: bytes) -> httpx.Response:
        request = self._http.build_request("POST", self._url, content=body)
        limit = self.config.first_token_timeout
        try:
            async with asyncio.timeout(limit):
                return await self._http.send(request, stream=True)
        except httpx.TimeoutException as error:
            raise EngineUnavailableError(
                f"the request did not reach {self.config.base_url} in {self.config.connect_timeout:g} s",
                field="connect_timeout",
                limit=self.config.connect_timeout,
            ) from error
        except TimeoutError as error:
            raise RequestTimeoutError(
                f"the model's server did not answer in {limit:g} s", field="first_token_timeout", limit=limit
            ) from error
        except httpx.TransportError as error:
            raise EngineUnavailableError(
                f"no model server answers at {self.config.base_url}; is it running?",
                field="base_url",
                value=self.config.base_url,
            ) from error

    async def _error_body(self, response: httpx.Response) -> bytes:
        """The first bytes of an error's body; a server that does not end it is not waited for."""
        body = bytearray()
        try:
            async with asyncio.timeout(self.config.connect_timeout):
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > MAX_ERROR_BYTES:
                        break
        except TimeoutError:
            pass
        return bytes(body[:MAX_ERROR_BYTES])


def _may_be_the_field(error: AutoGLMError) -> bool:
    """Whether a server that does not know ``early_action`` may have refused it; not all say which field it was."""
    return isinstance(error, InvalidInputError) and (error.field is None or _EARLY_ACTION in error.field)


async def _next_event(events: AsyncGenerator[bytes, None], end: float, name: str, config: ModelConfig) -> bytes | None:
    """The next event's data, or ``None`` after the last."""
    try:
        async with asyncio.timeout_at(end):
            return await anext(events, None)
    except TimeoutError as error:
        limit = getattr(config, name)
        raise RequestTimeoutError(f"the answer took longer than {name} allows", field=name, limit=limit) from error
    except httpx.TransportError as error:
        raise ModelServerError("the connection broke in the middle of the answer", field="base_url") from error


def _endpoint(base_url: str) -> httpx.URL:
    """Where requests go.

    Raises:
        InvalidInputError: not an http(s) address.
    """
    try:
        url = httpx.URL(base_url.rstrip("/") + "/chat/completions")
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidInputError(f"not an address: {error}", field="base_url", value=base_url[:80]) from error
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidInputError(
            "the server's address must begin with http:// or https://", field="base_url", value=base_url[:80]
        )
    return url


def _usage_of(usage: dict[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        prompt_tokens=_count(usage.get("prompt_tokens")),
        cached_tokens=_count(details.get("cached_tokens")),
        image_tokens=_count(details.get("image_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
    )


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
