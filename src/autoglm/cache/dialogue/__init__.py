"""Answers reused inside one session. See ``docs/caches/dialogue.md``."""

from autoglm.cache.dialogue.cache import DialogueCache, DialogueConfig, Lookup, Ticket
from autoglm.cache.dialogue.normalise import QueryRules, normalise
from autoglm.cache.dialogue.question import SESSION_PATTERN, Question, check_session, visible_key
from autoglm.cache.dialogue.store import Purge

__all__ = [
    "SESSION_PATTERN",
    "DialogueCache",
    "DialogueConfig",
    "Lookup",
    "Purge",
    "QueryRules",
    "Question",
    "Ticket",
    "check_session",
    "normalise",
    "visible_key",
]
