"""The bodies of the console's requests; every mistake is named."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.requests import Request

from autoglm.agent.actions import Action, Back, DoubleTap, Home, LongPress, Point, Swipe, Tap, Type
from autoglm.errors import InvalidInputError
from autoglm.server.intake import json_object, named
from autoglm.server.problems import BodyTooLargeError

MAX_BODY = 16 * 1024
MAX_TEXT = 1000

Place = Annotated[int, Field(ge=0, le=999)]
XY = Annotated[list[Place], Field(min_length=2, max_length=2)]
_Body = TypeVar("_Body", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NewPhone(_Strict):
    """``POST phones``; what is not given is drawn by the seed, and the seed by chance."""

    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    language: Literal["zh", "en"] | None = None
    theme: Literal["light", "dark"] | None = None


class NewTask(_Strict):
    """``POST phones/ID/task``; ``pause``: seconds between a decision and its action, for people to follow."""

    instruction: Annotated[str, Field(min_length=1, max_length=MAX_TEXT, pattern=r"\S")]
    pause: Annotated[float, Field(ge=0, le=5)] = 0.0


class Answer(_Strict):
    """``POST phones/ID/answer``: to the question with this number."""

    question: Annotated[int, Field(ge=1)]
    allow: bool


class Gesture(_Strict):
    """``POST phones/ID/input``: what a person does on the screen. Places are 0..999, as in the agent's actions."""

    kind: Literal["tap", "double_tap", "long_press", "swipe", "type", "back", "home"]
    at: XY | None = None
    to: XY | None = None
    text: Annotated[str, Field(max_length=MAX_TEXT)] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Gesture:
        needs = {"swipe": {"at", "to"}, "type": {"text"}, "back": set(), "home": set()}.get(self.kind, {"at"})
        for name in ("at", "to", "text"):
            if (getattr(self, name) is not None) != (name in needs):
                verb = "needs" if name in needs else "takes no"
                raise ValueError(f"{self.kind} {verb} {name}")
        return self

    def action(self) -> Action:
        """The same as a value of the agent's grammar."""
        start, end = _point(self.at), _point(self.to)
        actions: dict[str, Action] = {
            "tap": Tap(start),
            "double_tap": DoubleTap(start),
            "long_press": LongPress(start),
            "swipe": Swipe(start, end),
            "type": Type(self.text or ""),
            "back": Back(),
            "home": Home(),
        }
        return actions[self.kind]


def _point(xy: list[int] | None) -> Point:
    return (xy[0], xy[1]) if xy else (0, 0)


async def read(request: Request, schema: type[_Body]) -> _Body:
    """The body as ``schema``. Raises :class:`InvalidInputError` naming the field.

    Only ``application/json`` is taken: a form of another site cannot send it without asking first (CORS).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise InvalidInputError(
            "send Content-Type: application/json", field="content-type", limit="application/json", value=kind[:80]
        )
    body = await request.body()
    if len(body) > MAX_BODY:
        raise BodyTooLargeError(
            f"the body is over the limit of {MAX_BODY} bytes", field="body", limit=MAX_BODY, value=len(body)
        )
    try:
        return schema.model_validate(json_object(body))
    except ValidationError as error:
        raise named(error) from error
