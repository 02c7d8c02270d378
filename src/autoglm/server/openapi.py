"""What the OpenAPI document says beyond what the routes tell."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from autoglm.server.protocol import ChatRequest

_ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}
_MEANING = {
    400: "The request is wrong; `param` names the field.",
    401: "Missing or wrong API key.",
    404: "No such model or path.",
    405: "The path has no such method.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    429: "Too many requests in flight; see Retry-After.",
    500: "A bug of the server.",
    503: "The engine is (re)starting; see Retry-After.",
    504: "The request took too long.",
}
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"schema": _ERROR_SCHEMA}}}
    for status, text in _MEANING.items()
}


def _chat_body() -> dict[str, Any]:
    schema = ChatRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "200": {
                "description": "The completion, or its chunks as server-sent events. With `early_action`, an event "
                "named `action` holds `{index, action: {type, arguments}}` before the chunk that ends the choice.",
                "content": {
                    "application/json": {"schema": {"type": "object", "required": ["id", "object", "choices"]}},
                    "text/event-stream": {"schema": {"type": "string"}},
                },
            }
        },
    }


CHAT_BODY = _chat_body()


def describe(app: FastAPI) -> None:
    """Add the request body's parts to the document (the body itself is read by hand, for better errors)."""
    build = app.openapi

    def openapi() -> dict[str, Any]:
        document = build()
        parts = ChatRequest.model_json_schema(ref_template="#/components/schemas/{model}").get("$defs", {})
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(parts)
        # The framework's own validation never answers: names in paths are plain strings, bodies are read by hand.
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
