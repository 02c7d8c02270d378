"""Which layouts, phrases and templates belong to training and which are kept from it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property

from .templates import HELD_OUT, TEMPLATES, Template

WEIGHTS = {
    "open": 1.0,
    "icon": 2.0,
    "do": 1.0,
    "section": 1.5,
    "toggle": 3.0,
    "ask": 1.5,
    "choice": 2.0,
    "person": 3.0,
    "text": 3.0,
    "search": 3.0,
    "shop": 3.5,
    "alarm": 3.0,
    "note": 1.7,
    "dialog": 0.9,
    "banner": 0.5,
    "move": 0.8,
    "swipe": 0.6,
    "page": 0.5,
    "two": 3.0,
}
"""How often a family is drawn; its templates share the weight."""


@dataclass(frozen=True)
class Split:
    """A part of all possible tasks.

    Attributes:
        name: of the split.
        seeds: of the layouts; the ranges of two splits never overlap.
        phrases_held_out: use only the phrases that training never sees.
        templates_held_out: use only the templates that training never sees.
    """

    name: str
    seeds: range
    phrases_held_out: bool = False
    templates_held_out: bool = False

    @cached_property
    def templates(self) -> tuple[Template, ...]:
        """The templates of this split."""
        return tuple(t for t in TEMPLATES.values() if (t.id in HELD_OUT) == self.templates_held_out)

    @cached_property
    def _families(self) -> tuple[tuple[str, ...], tuple[float, ...], dict[str, tuple[Template, ...]]]:
        members: dict[str, tuple[Template, ...]] = {}
        for template in self.templates:
            members[template.family] = (*members.get(template.family, ()), template)
        names = tuple(members)
        return names, tuple(WEIGHTS[name] for name in names), members

    def draw(self, rng: random.Random) -> Template:
        """A template, families by their weights."""
        names, weights, members = self._families
        return rng.choice(members[rng.choices(names, weights)[0]])


SPLITS: dict[str, Split] = {
    split.name: split
    for split in (
        Split("train", range(100_000_000)),
        Split("validation", range(100_000_000, 101_000_000)),
        Split("held_out_layouts", range(101_000_000, 102_000_000)),
        Split("held_out_phrases", range(102_000_000, 103_000_000), phrases_held_out=True),
        Split("held_out_templates", range(103_000_000, 104_000_000), templates_held_out=True),
    )
}
"""Every split by its name. All but ``train`` use layouts that training never sees."""
