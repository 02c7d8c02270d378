"""Options of the server's caches."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from autoglm.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class CachingConfig:
    """What the server remembers, and where. Times in seconds.

    Attributes:
        redis_url, redis_password: the store that servers share; ``None``: each has its own memory. Never logged whole.
        namespace: servers of one namespace share; what it holds is theirs alone.
        models: whether the list of models is remembered.
        responses: whether finished deterministic answers are reused where a request asks for it.
        response_ttl: of answers without a session. session_ttl: of a session's, since its last question.
        max_entries, max_bytes: of answers in this process.
        model_tag: digest of checkpoint and engine options: answers of one model are never another's.
        warm_up: file of the most valuable entries, written every ``save_interval`` and on stop, read on start.
        warm_up_prompts: system prompts that the engine computes on start.
        warm_up_wait: whether the server is not ready before that is done.
    """

    redis_url: str | None = field(default=None, repr=False)
    redis_password: str | None = field(default=None, repr=False)
    namespace: str = "autoglm"
    models: bool = True
    responses: bool = False
    response_ttl: float = 600.0
    session_ttl: float = 180.0
    max_entries: int = 1000
    max_bytes: int = 64 * 2**20
    model_tag: str = ""
    warm_up: Path | None = None
    warm_up_prompts: tuple[str, ...] = ()
    warm_up_wait: bool = False
    save_interval: float = 60.0

    def __post_init__(self) -> None:
        for name in ("response_ttl", "session_ttl", "save_interval"):
            value = getattr(self, name)
            if not value > 0:
                raise InvalidInputError(f"{name} must be positive, got {value}", field=name, limit=0, value=value)
