"""What the parts of a model cost, as :mod:`autoglm.parallel.pipeline.partition` weighs them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from autoglm.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Costs:
    """Times of one and the same piece of work (a prompt with its image and its answer); the unit does not matter.

    Attributes:
        layers: of each decoder layer, in order; a layer's gated cross-attention counts with it.
        embedding: of what only the first stage does. head: final norm, logits, and what only the last stage does.
        vision: of the vision tower. vision_before: the first layer that needs its result; the tower stands on that
            layer's stage or on an earlier one, since results flow forward only.
    """

    layers: tuple[float, ...]
    embedding: float = 0.0
    head: float = 0.0
    vision: float = 0.0
    vision_before: int = 0

    def __post_init__(self) -> None:
        if not self.layers or min(*self.layers, self.embedding, self.head, self.vision) < 0:
            raise InvalidInputError("costs must name at least one layer, and none may be negative", field="costs")
        if not 0 <= self.vision_before < len(self.layers):
            raise InvalidInputError(
                f"vision_before {self.vision_before} is not one of {len(self.layers)} layers",
                field="vision_before",
                limit=len(self.layers) - 1,
                value=self.vision_before,
            )


def fastest(call: Callable[[], object], repeats: int = 3) -> float:
    """Seconds of the fastest of ``repeats`` calls, after one that warms up: what others do only ever adds."""
    call()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best
