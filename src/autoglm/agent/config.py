"""The loop's settings."""

from __future__ import annotations

from dataclasses import dataclass

from autoglm.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """Limits of a run.

    Attributes:
        max_steps: screens looked at before a run is given up.
        system_prompt: sent first; ``""`` sends none. :func:`autoglm.agent.dialogue.system_prompt` is the client's.
        output_tries: answers asked for on one screen until one is an action.
        retry_temperature: of the second try. At the first try's 0 the model would only repeat itself.
        confirm_timeout, take_over_timeout: seconds a person has to answer.
        repeats, max_period: a run is stuck when its last steps are one sequence of at most ``max_period`` steps, same
            screens and same actions, ``repeats`` times in a row. The last of them is not carried out.
    """

    max_steps: int = 100
    system_prompt: str = ""
    output_tries: int = 2
    retry_temperature: float = 0.7
    confirm_timeout: float = 60.0
    take_over_timeout: float = 600.0
    repeats: int = 3
    max_period: int = 4

    def __post_init__(self) -> None:
        least = {"max_steps": 1, "output_tries": 1, "repeats": 2, "max_period": 1}
        for name, limit in least.items():
            if (value := getattr(self, name)) < limit:
                raise InvalidInputError(f"{name} must be at least {limit}", field=name, limit=limit, value=value)
        for name in ("retry_temperature", "confirm_timeout", "take_over_timeout"):
            if not (value := getattr(self, name)) >= 0:
                raise InvalidInputError(f"{name} must not be negative", field=name, limit=0, value=value)
