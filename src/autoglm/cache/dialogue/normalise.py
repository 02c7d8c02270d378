"""Queries that differ only in how they were typed become one."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))
_TRAILING = "。.!?,;、~…｡ "


@dataclass(frozen=True, slots=True)
class QueryRules:
    """What makes no difference.

    Always: Unicode forms (NFKC: full-width and half-width, composed and decomposed), runs of white space, invisible
    characters. White space between Chinese characters is kept: in a text to be typed it matters.

    Attributes:
        fold_case: upper and lower case, too. Off, as it matters in a text to be typed.
        trim_end: Chinese and English punctuation at the end.
    """

    fold_case: bool = False
    trim_end: bool = True


def normalise(query: str, rules: QueryRules | None = None) -> str:
    """The form that equal queries share; applying it again changes nothing. Never empty unless ``query`` is blank."""
    rules = rules or QueryRules()
    text = unicodedata.normalize("NFKC", query)
    if rules.fold_case:
        text = unicodedata.normalize("NFKC", text.casefold())
    text = " ".join(text.translate(_INVISIBLE).split())
    if rules.trim_end:
        # A query of nothing but punctuation keeps it: it is all there is to tell it from others.
        text = text.rstrip(_TRAILING) or text
    return text
