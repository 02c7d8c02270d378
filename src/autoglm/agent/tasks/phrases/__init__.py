"""How people ask: paraphrases by family and language.

Slots: ``{app} {thing} {value} {person} {text} {time} {product} {first} {second}``. The last phrase of every family that
has four or more is never used in training.
"""

from __future__ import annotations

from . import chinese, english

PHRASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    family: (phrases, english.PHRASES[family]) for family, phrases in chinese.PHRASES.items()
}
"""Family -> Chinese and English phrases."""


def split_phrases(family: str, language: str, *, held_out: bool) -> tuple[str, ...]:
    """The phrases of a family for training, or those kept for the held-out split."""
    phrases = PHRASES[family][0 if language == "zh" else 1]
    if len(phrases) < 4:
        return phrases
    return phrases[-1:] if held_out else phrases[:-1]
