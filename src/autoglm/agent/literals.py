"""The values an action can hold, read from text: strings, points, durations. Nothing is evaluated."""

from __future__ import annotations

import re

from autoglm.agent.actions import Point
from autoglm.errors import ActionParseError

MAX_COORDINATE = 999
MAX_WAIT_SECONDS = 60
_SHOWN = 80
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "/": "/", "\\": "\\", '"': '"', "'": "'"}
_PLAIN = {quote: re.compile(rf"[^{quote}\\]*") for quote in "\"'"}
_POINT = re.compile(r"\[\s*(-?[0-9]+)\s*,\s*(-?[0-9]+)\s*\]")
STRING_PATTERN = "|".join(rf"{q}(?>[^{q}\\]+|\\(?:[nrtbf/\\\"']|u[0-9a-fA-F]{{4}}))*{q}" for q in "\"'")
"""What :func:`read_string` reads, but for halves of surrogate pairs."""
POINT_PATTERN = _POINT.pattern
_DURATION = re.compile(r"([0-9]{1,9})\s*(?:seconds?)?")
_COORDINATE = re.compile(r"0|[1-9][0-9]{0,2}")


def shorten(text: str) -> str:
    """At most 80 characters of ``text``, for an error's ``value``."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def read_string(text: str, start: int, field: str) -> tuple[str, int]:
    """The quoted string at ``start`` and the index after its closing quote.

    Quotes are double or single. The escapes are those of JSON and ``\\'``; a line break or tab may also stand as it is,
    as the client allows. Python's other escapes are refused: no model of this family writes them.

    Raises:
        ActionParseError: no quote here, an unknown escape, half a surrogate pair, or no closing quote.
    """
    quote = text[start : start + 1]
    if quote not in _PLAIN:
        raise ActionParseError(f"{field} must be a quoted string", field=field, value=shorten(text[start:]))
    parts: list[str] = []
    at = start + 1
    while True:
        plain = _PLAIN[quote].match(text, at)
        assert plain is not None  # the pattern also matches nothing
        parts.append(plain[0])
        at = plain.end()
        if at == len(text):
            raise ActionParseError(f"{field} has no closing quote", field=field, value=shorten(text[start:]))
        if text[at] == quote:
            return _joined(parts, field), at + 1
        piece, at = _escape(text, at, field)
        parts.append(piece)


def _escape(text: str, at: int, field: str) -> tuple[str, int]:
    """The character that the backslash at ``at`` stands for; a half of a pair is put together by :func:`_joined`."""
    letter = text[at + 1 : at + 2]
    if letter in _ESCAPES:
        return _ESCAPES[letter], at + 2
    digits = text[at + 2 : at + 6]
    if letter == "u" and re.fullmatch(r"[0-9a-fA-F]{4}", digits):
        return chr(int(digits, 16)), at + 6
    raise ActionParseError(f"{field} holds an unknown escape", field=field, value=shorten(text[at : at + 6]))


def _joined(parts: list[str], field: str) -> str:
    """Pairs of surrogate escapes become one character; a lone half is no text."""
    text = "".join(parts)
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError as error:
        raise ActionParseError(f"{field} holds half a surrogate pair", field=field) from error


def read_point(text: str, start: int, field: str) -> tuple[Point, int]:
    """The point ``[x,y]`` at ``start``, each 0..999, and the index after it.

    Raises:
        ActionParseError: not two whole numbers in brackets, or one of them off the screen.
    """
    found = _POINT.match(text, start)
    if found is None:
        raise ActionParseError(f"{field} must be [x,y] with whole numbers", field=field, value=shorten(text[start:]))
    for digits in found.groups():
        if _COORDINATE.fullmatch(digits) is None:
            raise ActionParseError(
                f"{field} must hold whole numbers between 0 and {MAX_COORDINATE}",
                field=field,
                limit=MAX_COORDINATE,
                value=shorten(digits),
            )
    return (int(found[1]), int(found[2])), found.end()


def read_duration(text: str, field: str) -> int:
    """Whole seconds of ``N seconds``.

    Raises:
        ActionParseError: another form, or more than a minute.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ActionParseError(f'{field} must be like "2 seconds"', field=field, value=shorten(text))
    seconds = int(found[1])
    if seconds > MAX_WAIT_SECONDS:
        raise ActionParseError(
            f"{field} must be at most {MAX_WAIT_SECONDS} seconds", field=field, limit=MAX_WAIT_SECONDS, value=seconds
        )
    return seconds
