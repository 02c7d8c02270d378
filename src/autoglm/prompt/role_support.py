"""Which roles, and which forms of content, a chat template really renders.

A template skips what it does not know without a word: an unknown role, or all but the first part of an
assistant message's list. So each role is tried once with marked text when a server starts, and nothing can
vanish later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoglm.errors import InvalidInputError
from autoglm.prompt.template import ChatTemplate

ROLES = ("system", "user", "assistant", "tool")
_FIRST, _SECOND = "probe-alpha-text", "probe-omega-text"


@dataclass(frozen=True, slots=True)
class RoleSupport:
    """Whether content given as a string, and as a list of text parts, comes out whole."""

    string: bool
    parts: bool


def probe_roles(template: ChatTemplate) -> dict[str, RoleSupport]:
    """The roles of :data:`ROLES` that ``template`` renders in at least one form."""
    parts = [{"type": "text", "text": _FIRST}, {"type": "text", "text": _SECOND}]
    found: dict[str, RoleSupport] = {}
    for role in ROLES:
        support = RoleSupport(
            string=_renders(template, {"role": role, "content": _FIRST}, (_FIRST,)),
            parts=_renders(template, {"role": role, "content": parts}, (_FIRST, _SECOND)),
        )
        if support.string or support.parts:
            found[role] = support
    return found


def _renders(template: ChatTemplate, message: Mapping[str, Any], texts: Sequence[str]) -> bool:
    """Tried alone, after a user turn and before one, as templates may insist on an order."""
    user = {"role": "user", "content": "?"}
    for dialogue in ([message], [user, message], [message, user]):
        try:
            rendered = template.render(dialogue)
        except InvalidInputError:
            continue
        # A list printed as a Python literal also holds the texts, but with its keys.
        if all(text in rendered for text in texts) and "'text':" not in rendered:
            return True
    return False
