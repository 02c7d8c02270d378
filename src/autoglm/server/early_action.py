"""Ending an answer at its complete action, and the action as JSON."""

from __future__ import annotations

from typing import Any

from autoglm.agent.actions import named_arguments
from autoglm.agent.grammar import COMPLETE_ACTION, parse_output
from autoglm.errors import ActionParseError
from autoglm.messages import Ending

EARLY_ACTION = Ending(name="action", pattern=COMPLETE_ACTION, character=")")
FEATURES = {"x-autoglm-features": "early_action"}
"""Header of every answer: a client may ask for what it names."""


def action_of(text: str) -> dict[str, Any] | None:
    """``{"type": ..., "arguments": {...}}`` with the grammar's own names; ``None`` if ``text`` holds no action."""
    try:
        _, action = parse_output(text)
    except ActionParseError:
        return None
    name, arguments = named_arguments(action)
    return {"type": name, "arguments": arguments}
