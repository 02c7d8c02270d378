"""Sampling parameters, in the terms of the OpenAI chat API plus the extensions vLLM made common."""

from __future__ import annotations

from msgspec import Struct

from autoglm.errors import InvalidInputError


class Ending(Struct, frozen=True, kw_only=True):
    """Where an answer is complete before the model says so.

    Attributes:
        name: what the answer is then said to have been stopped by.
        pattern: a regular expression; the answer ends where it first matches, from the answer's beginning on.
        character: the last of every match. The pattern is tried when it arrives, not for every token.
    """

    name: str
    pattern: str
    character: str


class SamplingParams(Struct, frozen=True, kw_only=True):
    """How tokens are chosen and when to stop.

    Penalties follow OpenAI (``frequency_penalty``, ``presence_penalty``: generated tokens only) and
    CTRL/transformers (``repetition_penalty``: prompt and generated tokens). They apply before temperature,
    at temperature 0 too. ``logprobs`` are of the raw model distribution, before penalties.

    Attributes:
        max_tokens: new tokens at most; ``None``: up to the context. Clamped to it, never refused.
        logprobs: number of alternatives to report per token (0: the chosen token only); ``None``: off.
        ending: the answer may end early, with reason ``stop``.
        seed: fixes the draws of this request alone, whatever else is in the batch.
    """

    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] = {}
    logprobs: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ending: Ending | None = None
    include_stop_in_output: bool = False
    ignore_eos: bool = False
    skip_special_tokens: bool = True

    def validate(self) -> None:
        """Raise :class:`InvalidInputError` naming the first field out of range."""
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is None:
                continue
            # Comparing refuses nan too, and an integer too large for a float does not overflow.
            if not low <= value <= high:
                raise InvalidInputError(
                    f"{name} must be between {low} and {high}, got {value}",
                    field=name,
                    limit=f"[{low}, {high}]",
                    value=value,
                )
        if len(self.stop) > MAX_STOP_STRINGS or any(not s or len(s) > MAX_STOP_CHARS for s in self.stop):
            raise InvalidInputError(
                f"stop takes up to {MAX_STOP_STRINGS} strings of 1 to {MAX_STOP_CHARS} characters",
                field="stop",
                limit=MAX_STOP_STRINGS,
                value=len(self.stop),
            )
        for bias in self.logit_bias.values():
            if not -100 <= bias <= 100:
                raise InvalidInputError(
                    "logit_bias values must be between -100 and 100",
                    field="logit_bias",
                    limit="[-100, 100]",
                    value=bias,
                )


MAX_STOP_STRINGS = 16
MAX_STOP_CHARS = 256
_RANGES: tuple[tuple[str, float, float], ...] = (
    ("max_tokens", 1, 2**31 - 1),
    ("min_tokens", 0, 2**31 - 1),
    ("temperature", 0, 2),
    ("top_p", 0, 1),
    ("top_k", 0, 2**31 - 1),
    ("min_p", 0, 1),
    ("seed", -(2**63), 2**63 - 1),
    ("frequency_penalty", -2, 2),
    ("presence_penalty", -2, 2),
    ("repetition_penalty", 0.01, 10),
    ("logprobs", 0, 20),
)
