"""The client's action grammar, read strictly: text in, one action out, or a typed error. Nothing is evaluated.

    output  = [thought] {"<think>" | "</think>" | "<answer>"} action {"</answer>" | "</think>"}
    thought = {"<think>"} any text, up to the first "</think>" or, without one, the first "<answer>"
    action  = do(action="NAME", key=value, ...) | finish(message="...")

White space between the parts does not count. Tags may be doubled or nested, because the client's history shows them so
to the model; ``</answer>`` is usually missing, because it is the model's stop token. Text after the action is refused.

Strings of ``Type``, ``Type_Name`` and ``finish`` have two readings. If the whole is one proper quoted string, its
escapes are undone. Otherwise the text between the first quote and the last quote before the closing parenthesis is
taken as it stands, as the client takes it: so ``text="say "hi" now"`` types its inner quotes and ``text="C:\\dir"`` its
backslash. Where that text itself could end the string (a quote before a parenthesis, or before another key), it is
refused.

The client ends a task as done when it cannot read an action, and reads ``finish(`` or ``do(`` even out of the thought.
Neither is done here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from autoglm.agent import actions
from autoglm.agent.actions import Action
from autoglm.agent.literals import POINT_PATTERN, STRING_PATTERN, read_duration, read_point, read_string, shorten
from autoglm.errors import ActionParseError

_TAGS = re.compile(r"(?:\s|</?think>|<answer>)*")
_OPENING = re.compile(r"(?:\s*<think>)*")
_CLOSING = re.compile(r"(?:\s|</answer>|</think>)*\Z")
_CALL = re.compile(r"(do|finish)\s*\(\s*")
_KEY = re.compile(r"([A-Za-z_]\w*)\s*=\s*")
_COMMA = re.compile(r"\s*,\s*")
_END = re.compile(r"\s*\)")
_TAG = r"(?:\s|</?think>|<answer>)"
_VALUE = f"(?:{STRING_PATTERN}|{POINT_PATTERN})"
COMPLETE_ACTION = (
    r"(?>(?P<opened>(?:\s*<think>)+)?)"
    # Where the thought ends, as _thought() finds it: at once, at the first </think>, or at the first <answer>.
    rf"(?>(?>(?(opened)(?:\s|<think>)*(?:</think>|<answer>){_TAG}*|{_TAG}*))(?=(?:do|finish)\s*\()"
    rf"|(?s:.*?)</think>{_TAG}*|(?s:.*?)<answer>{_TAG}*)"
    rf"(?:do|finish)\s*\(\s*{_KEY.pattern}{_VALUE}(?:{_COMMA.pattern}{_KEY.pattern}{_VALUE})*{_END.pattern}"
)
"""Matches a growing output from the closing parenthesis of its action on. What :func:`complete_action` then says is the
last word: no text to come makes another action of it. A call in a thought that is still open does not match."""


class _Form(NamedTuple):
    """What an action takes: required keys, optional keys, and how it is made."""

    make: Callable[..., Action]
    keys: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


_FORMS = {
    "Launch": _Form(actions.Launch, ("app",)),
    "Tap": _Form(actions.Tap, ("element",), ("message",)),
    "Double Tap": _Form(actions.DoubleTap, ("element",)),
    "Long Press": _Form(actions.LongPress, ("element",)),
    "Swipe": _Form(actions.Swipe, ("start", "end")),
    "Type": _Form(actions.Type, ("text",)),
    "Type_Name": _Form(lambda text: actions.Type(text, name=True), ("text",)),
    "Back": _Form(actions.Back),
    "Home": _Form(actions.Home),
    "Wait": _Form(lambda duration: actions.Wait(read_duration(duration, "duration")), ("duration",)),
    "Take_over": _Form(actions.TakeOver, ("message",)),
    "Interact": _Form(actions.Interact),
    "Note": _Form(actions.Note, ("message",)),
    "Call_API": _Form(actions.CallApi, ("instruction",)),
}
_FINISH = _Form(actions.Finish, ("message",))
_POINTS = ("element", "start", "end")
_QUOTES = ("'", '"')
_MAY_BE_RAW = ("Type", "Type_Name", "finish")


def parse_output(text: str) -> tuple[str, Action]:
    """The thought and the action of a model's whole output.

    Raises:
        ActionParseError: the output is not of the grammar; ``field`` is the key at fault, or ``action`` or ``output``.
    """
    think, start = split_output(text)
    action, end = _read_action(text, start, raw=True)
    _refuse_rest(text, end)
    return think, action


def complete_action(text: str) -> Action | None:
    """The action in a growing output as soon as it is complete, else ``None``.

    The last word is :func:`parse_output`'s, when the output has ended: only then is it known whether text follows, and
    only then can a string without proper quotes be read.
    """
    try:
        return _read_action(text, split_output(text)[1], raw=False)[0]
    except ActionParseError:
        return None


def split_output(text: str) -> tuple[str, int]:
    """The thought without its tags, and where the action begins.

    Raises:
        ActionParseError: no ``do(`` or ``finish(`` follows the thought.
    """
    begin, end = _thought(text)
    tags = _TAGS.match(text, end)
    start = tags.end() if tags else end
    if _CALL.match(text, start) is None:
        raise ActionParseError(
            "the output holds no action where one must stand, after the thought",
            field="output",
            value=shorten(text[start:].strip() or text.strip()),
        )
    return text[begin:end].strip(), start


def _thought(text: str) -> tuple[int, int]:
    """Where the thought begins and ends."""
    opening = _OPENING.match(text)
    begin = opening.end() if opening else 0
    tags = _TAGS.match(text, begin)
    if tags is not None and (tags.end() > begin or begin == 0) and _CALL.match(text, tags.end()):
        return begin, begin  # an action at once: a tag inside its strings ends no thought
    for tag in ("</think>", "<answer>"):
        if (end := text.find(tag, begin)) >= 0:
            return begin, end
    return begin, begin


def _refuse_rest(text: str, end: int) -> None:
    if _CLOSING.match(text, end) is None:
        raise ActionParseError("text follows the action", field="output", value=shorten(text[end:].strip()))


def _read_action(text: str, start: int, raw: bool) -> tuple[Action, int]:
    """The action at ``start`` and the index after it."""
    call = _CALL.match(text, start)
    assert call is not None  # split_output found it
    if call[1] == "finish":
        name, form, at = "finish", _FINISH, call.end()
    else:
        key = _KEY.match(text, call.end())
        if key is None or key[1] != "action":
            raise ActionParseError('do( must begin with action="…"', field="action", value=shorten(text[call.end() :]))
        name, at = read_string(text, key.end(), "action")
        if name not in _FORMS:
            raise ActionParseError(f"there is no action {shorten(name)!r}", field="action", value=shorten(name))
        form, at = _FORMS[name], _after_value(text, at)
    if raw and name in _MAY_BE_RAW:
        values, at = _read_maybe_raw(text, at, form)
    else:
        values, at = _read_keys(text, at, form)
    missing = [key for key in form.keys if key not in values]
    if missing:
        raise ActionParseError(f"{name} needs {missing[0]}", field=missing[0], value=name)
    if name == "Launch" and not values["app"].strip():
        raise ActionParseError("app must name an app", field="app", value="")
    return form.make(**values), at


def _after_value(text: str, at: int) -> int:
    """Past the comma before the next key; a closing parenthesis stays for :func:`_read_keys`."""
    comma = _COMMA.match(text, at)
    if comma is not None and _KEY.match(text, comma.end()):
        return comma.end()
    if _END.match(text, at):
        return at
    raise ActionParseError("a comma or ) must follow a value", field="action", value=shorten(text[at:]))


def _read_keys(text: str, at: int, form: _Form) -> tuple[dict[str, Any], int]:
    """``key=value`` pairs up to the closing parenthesis."""
    values: dict[str, Any] = {}
    while (end := _END.match(text, at)) is None:
        key = _KEY.match(text, at)
        if key is None:
            raise ActionParseError("a key and = must stand here", field="action", value=shorten(text[at:]))
        name = key[1]
        if name not in form.keys + form.optional:
            raise ActionParseError(f"the action has no {shorten(name)}", field=shorten(name), value=shorten(text[at:]))
        if name in values:
            raise ActionParseError(f"{name} stands twice", field=name, value=shorten(text[at:]))
        read = read_point if name in _POINTS else read_string
        values[name], at = read(text, key.end(), name)
        at = _after_value(text, at)
    return values, end.end()


def _read_maybe_raw(text: str, at: int, form: _Form) -> tuple[dict[str, Any], int]:
    """One string: by its quotes if that reads to the very end, else as the client cuts it."""
    try:
        values, end = _read_keys(text, at, form)
        _refuse_rest(text, end)
    except ActionParseError as error:
        content, end = _cut(text, at, form, error)
        return {form.keys[0]: content}, end
    return values, end


def _cut(text: str, at: int, form: _Form, error: ActionParseError) -> tuple[str, int]:
    """The raw reading, or ``error``, why the proper one failed."""
    key = _KEY.match(text, at)
    quote = text[key.end() : key.end() + 1] if key is not None and key[1] in form.keys else ""
    if key is None or quote not in _QUOTES:
        raise error
    begin = key.end() + 1
    found = re.compile(rf"{quote}\s*\){_CLOSING.pattern}").search(text, begin)
    if found is None or re.search(rf"{quote}\s*(?:\)|,\s*\w+\s*=)", text[begin : found.start()]):
        raise error
    return text[begin : found.start()], found.end()
