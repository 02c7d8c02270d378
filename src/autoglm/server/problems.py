"""Errors as the OpenAI API writes them: one table from error kind to HTTP status."""

from __future__ import annotations

import math
from typing import Any

from fastapi.responses import JSONResponse

from autoglm.errors import AutoGLMError, InvalidInputError
from autoglm.messages import ErrorInfo

STATUS = {
    "invalid_input": 400,
    "unsupported_field": 400,
    "context_length_exceeded": 400,
    "invalid_image": 400,
    "invalid_api_key": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "body_timeout": 408,
    "conflict": 409,
    "body_too_large": 413,
    "overloaded": 429,
    "internal_error": 500,
    "engine_unavailable": 503,
    "timeout": 504,
}


class BodyTooLargeError(InvalidInputError):
    """The request body is over the limit."""

    kind = "body_too_large"


class BodyTimeoutError(InvalidInputError):
    """The request body did not arrive in time."""

    kind = "body_timeout"


class MethodNotAllowedError(InvalidInputError):
    """The path exists, the method does not."""

    kind = "method_not_allowed"


class ConflictError(InvalidInputError):
    """Right as a request, but not in the state that things are in now."""

    kind = "conflict"


class ForbiddenError(InvalidInputError):
    """Not from there."""

    kind = "forbidden"


class RequestError(AutoGLMError):
    """An :class:`ErrorInfo` that came over the wire, raised here."""

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(info.message, field=info.field, limit=info.limit, value=info.value)
        self.info = info


def info_of(error: AutoGLMError) -> ErrorInfo:
    """The wire form of any of our errors."""
    return error.info if isinstance(error, RequestError) else ErrorInfo.of(error)


def body_of(info: ErrorInfo) -> dict[str, Any]:
    """``{"error": {message, type, param, code, …}}``; ``limit`` and ``value`` are extensions."""
    status = STATUS.get(info.kind, 500)
    error: dict[str, Any] = {
        "message": info.message,
        "type": "invalid_request_error" if status < 429 else "server_error",
        "param": info.field,
        "code": info.kind,
    }
    error |= {k: v for k, v in (("limit", info.limit), ("value", info.value)) if v is not None and _finite(v)}
    return {"error": error}


def _finite(value: str | int | float) -> bool:
    """JSON has no NaN or infinity."""
    return not isinstance(value, float) or math.isfinite(value)


def response_of(error: AutoGLMError) -> JSONResponse:
    """The HTTP answer to an error that came before the first byte of an answer."""
    info = info_of(error)
    status = STATUS.get(info.kind, 500)
    headers: dict[str, str] = {}
    if status in (429, 503):
        headers["Retry-After"] = str(max(1, math.ceil(info.retry_after or 1)))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status in (408, 413):
        headers["Connection"] = "close"
    return JSONResponse(body_of(info), status_code=status, headers=headers)
