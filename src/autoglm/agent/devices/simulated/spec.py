"""Which phone: everything that can differ between two simulated phones follows from these few values."""

from __future__ import annotations

import random
from dataclasses import dataclass

from autoglm.errors import InvalidInputError

from .catalog import LANGUAGES

SCREENS = ((360, 800), (384, 832), (412, 915), (320, 704), (360, 780))
"""Sizes in pixels: all between 19.5:9 and 20:9."""
THEMES = ("light", "dark")
FONT_SCALES = (0.95, 1.15)


@dataclass(frozen=True, slots=True)
class PhoneSpec:
    """One simulated phone.

    Attributes:
        seed: of the layout and the content: order of icons and rows, installed apps, colours, contacts, states.
        language: "zh" or "en": of everything drawn.
        theme: "light" or "dark".
        width, height: of the screen in pixels, one of ``SCREENS``.
        font_scale: of all labels, 0.95..1.15.

    Raises:
        InvalidInputError: a value outside its set.
    """

    seed: int
    language: str = "en"
    theme: str = "light"
    width: int = 360
    height: int = 800
    font_scale: float = 1.0

    def __post_init__(self) -> None:
        limits: tuple[tuple[str, object, tuple[object, ...]], ...] = (
            ("language", self.language, LANGUAGES),
            ("theme", self.theme, THEMES),
            ("screen", (self.width, self.height), SCREENS),
        )
        for field, value, allowed in limits:
            if value not in allowed:
                raise InvalidInputError(
                    f"A simulated phone has no such {field}: use one of {allowed}.",
                    field=field,
                    limit=str(allowed),
                    value=str(value),
                )
        if not FONT_SCALES[0] <= self.font_scale <= FONT_SCALES[1]:
            raise InvalidInputError(
                f"The font scale must be within {FONT_SCALES}.",
                field="font_scale",
                limit=str(FONT_SCALES),
                value=self.font_scale,
            )

    @classmethod
    def random(cls, seed: int, language: str | None = None, theme: str | None = None) -> PhoneSpec:
        """The phone of a seed; ``language`` and ``theme`` replace what the seed would choose, and nothing else."""
        rng = random.Random(f"spec {seed}")
        drawn_language, drawn_theme = rng.choice(LANGUAGES), rng.choice(THEMES)
        width, height = rng.choice(SCREENS)
        scale = round(rng.uniform(*FONT_SCALES), 2)
        return cls(seed, language or drawn_language, theme or drawn_theme, width, height, scale)
