"""The request body of ``POST /v1/chat/completions``. Every field of the OpenAI API either works or is refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from autoglm.cache.dialogue import SESSION_PATTERN
from autoglm.errors import UnsupportedFieldError

Probability = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
StopString = Annotated[str, Field(min_length=1, max_length=256)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TextContent(_Body):
    """``{"type": "text", "text": …}``"""

    type: Literal["text"]
    text: str


class ImageURL(_Body):
    """``detail`` is accepted for compatibility: images are always seen at full size."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImageContent(_Body):
    """``{"type": "image_url", "image_url": {"url": …}}``"""

    type: Literal["image_url"]
    image_url: ImageURL


def _shape(value: Any) -> str | None:
    """Which branch of "a string or a list" a value belongs to, so that errors speak of that branch alone."""
    if isinstance(value, str):
        return "<string>"
    return "<list>" if isinstance(value, list) else None


def _part(value: Any) -> str | None:
    """Which kind of content part a value says it is."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"<{kind}>" if kind in ("text", "image_url") else None


Part = Annotated[
    Annotated[TextContent, Tag("<text>")] | Annotated[ImageContent, Tag("<image_url>")],
    Discriminator(
        _part,
        custom_error_type="unknown_part",
        custom_error_message="a part must be an object of type 'text' or 'image_url'",
    ),
]
Content = Annotated[
    Annotated[str, Tag("<string>")] | Annotated[list[Part], Field(min_length=1), Tag("<list>")],
    Discriminator(_shape, custom_error_type="content_type", custom_error_message="must be a string or a list of parts"),
]
Stop = Annotated[
    Annotated[StopString, Tag("<string>")] | Annotated[list[StopString], Field(max_length=16), Tag("<list>")],
    Discriminator(_shape, custom_error_type="stop_type", custom_error_message="must be a string or a list of strings"),
]


class Message(_Body):
    """One message. Which roles exist is the checkpoint's chat template's business."""

    role: str
    content: Content


class StreamOptions(_Body):
    """``include_usage``: one more chunk at the end, with no choices."""

    include_usage: bool = False
    include_obfuscation: Literal[False] | None = None


class ChatRequest(_Body):
    """OpenAI fields first, then the extensions vLLM made common."""

    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    stop: Stop | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    user: Annotated[str, Field(max_length=512, description="Accepted; has no effect on the answer.")] | None = None
    # Extensions.
    top_k: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = None
    min_p: Probability | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = None
    min_tokens: Count | None = None
    stop_token_ids: Annotated[list[Count], Field(max_length=8192)] | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None
    priority: Annotated[int, Field(ge=-(2**31), le=2**31 - 1)] | None = None
    cache_salt: Annotated[str, Field(max_length=512)] | None = None
    early_action: (
        Annotated[
            bool,
            Field(
                description="End each choice at the closing parenthesis of its `do(...)` or `finish(...)`, and give "
                "the parsed action: streamed as an event named `action`, else as the choice's field `action`."
            ),
        ]
        | None
    ) = None
    session: (
        Annotated[str, Field(pattern=SESSION_PATTERN, description="Names the dialogue whose answers may be reused.")]
        | None
    ) = None


NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (None,),
    "function_call": (None, "none"),
    "functions": (None, []),
    "metadata": (None, {}),
    "modalities": (None, ["text"]),
    "moderation": (None,),
    "parallel_tool_calls": (None, True, False),
    "prediction": (None,),
    "prompt_cache_key": (None,),
    "prompt_cache_retention": (None,),
    "reasoning_effort": (None,),
    "response_format": (None, {"type": "text"}),
    "safety_identifier": (None,),
    "service_tier": (None, "auto", "default"),
    "store": (None, False),
    "tool_choice": (None, "none", "auto"),
    "tools": (None, []),
    "verbosity": (None,),
    "web_search_options": (None,),
}
"""OpenAI fields that do nothing here, with the values that ask for nothing; any other value is refused by name."""


def drop_neutral(body: dict[str, Any]) -> dict[str, Any]:
    """``body`` without the fields of :data:`NEUTRAL`. Raises :class:`UnsupportedFieldError`."""
    for field, values in NEUTRAL.items():
        if field in body and not any(body[field] == v and type(body[field]) is type(v) for v in values):
            raise UnsupportedFieldError(f"{field} is not supported by this server", field=field)
    return {k: v for k, v in body.items() if k not in NEUTRAL}
