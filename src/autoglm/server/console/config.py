"""Limits of the console."""

from __future__ import annotations

from dataclasses import dataclass

from autoglm.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleConfig:
    """What people at the console may use up.

    Attributes:
        max_phones: simulated phones at once; one more gets 429.
        max_viewers: event streams of one phone; one more gets 429.
        phone_idle: seconds without a viewer, a task or a request until a phone is put away.
        unwatched: seconds that a task goes on without a viewer.
        max_steps: steps of one task.
        max_tokens: of one answer of the model.
        history: entries a phone remembers; older ones are forgotten first.
        system_prompt: send the Open-AutoGLM client's; a model that was not trained with one does without.
        api_base: URL of the OpenAI-compatible API that decides; ``None``: this server.
        api_model: the model's name there; ``None``: the first name served here.
    """

    max_phones: int = 16
    max_viewers: int = 8
    phone_idle: float = 1800.0
    unwatched: float = 60.0
    max_steps: int = 30
    max_tokens: int = 3000
    history: int = 4096
    system_prompt: bool = True
    api_base: str | None = None
    api_model: str | None = None

    def __post_init__(self) -> None:
        for name in ("max_phones", "max_viewers", "phone_idle", "unwatched", "max_steps", "max_tokens", "history"):
            value = getattr(self, name)
            if not value > 0:
                raise InvalidInputError(f"{name} must be positive, got {value}", field=name, limit=0, value=value)
