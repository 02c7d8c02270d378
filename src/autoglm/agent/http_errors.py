"""HTTP answers and error events of a model's server, as our typed errors."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from autoglm.errors import (
    AuthenticationError,
    AutoGLMError,
    EngineUnavailableError,
    InvalidInputError,
    ModelServerError,
    NotFoundError,
    OverloadedError,
    PromptTooLongError,
    RequestTimeoutError,
)

MAX_ERROR_BYTES = 16_384
_SHOWN = 300
_BY_STATUS: dict[int, type[AutoGLMError]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    404: NotFoundError,
    408: RequestTimeoutError,
    429: OverloadedError,
    503: EngineUnavailableError,
    504: RequestTimeoutError,
}
_BY_CODE: dict[str, type[AutoGLMError]] = {
    kind.kind: kind
    for kind in (
        AuthenticationError,
        EngineUnavailableError,
        InvalidInputError,
        NotFoundError,
        OverloadedError,
        PromptTooLongError,
        RequestTimeoutError,
    )
}


class RetryLaterError(EngineUnavailableError):
    """A 503 that says when to come back."""

    def __init__(self, message: str, retry_after: float, field: str | None) -> None:
        super().__init__(message, field=field)
        self.retry_after = retry_after


def error_of_response(status: int, headers: Mapping[str, str], body: bytes) -> AutoGLMError:
    """The error that an answer other than 200 stands for; its message is the server's own."""
    message, field, _ = _parts(body)
    message = message or f"the model's server answered {status}"
    pause = _retry_after(headers.get("retry-after"))
    if status == 429:
        return OverloadedError(message, retry_after=pause, field=field)
    if status == 503:
        return RetryLaterError(message, pause, field)
    kind = _BY_STATUS.get(status) or (InvalidInputError if 400 <= status < 500 else ModelServerError)
    return kind(message, field=field, value=status)


def error_of_event(event: Any) -> AutoGLMError:
    """The error that a stream ended with: ``{"error": {"message", "code", "param"}}``."""
    message, field, code = _parts(msgspec.json.encode(event))
    return _BY_CODE.get(code, ModelServerError)(message or "the model's server ended the answer", field=field)


def retry_pause(error: AutoGLMError) -> float | None:
    """Seconds to wait before asking again; ``None``: do not."""
    return error.retry_after if isinstance(error, OverloadedError | RetryLaterError) else None


def _parts(body: bytes) -> tuple[str, str | None, str]:
    """Message, field and code of OpenAI's error object, as far as they are there."""
    try:
        found = msgspec.json.decode(body)
        error = found["error"] if isinstance(found, dict) else {}
        error = error if isinstance(error, dict) else {"message": error}
    except (msgspec.DecodeError, KeyError, UnicodeDecodeError):
        return "", None, ""
    field = error.get("param")
    return str(error.get("message") or "")[:_SHOWN], field if isinstance(field, str) else None, str(error.get("code"))


def _retry_after(header: str | None) -> float:
    """Seconds of a ``Retry-After``: a number or a date; 1 where there is none or it cannot be read."""
    if header is None:
        return 1.0
    if header.strip().isdecimal():
        return float(header.strip()[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError):
        return 1.0
