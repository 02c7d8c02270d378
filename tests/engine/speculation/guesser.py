"""A drafter that knows the answers, and errs as often as it is told: every mixture of right and wrong drafts."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from autoglm.engine import Engine
from autoglm.engine.sequence import Sequence as Choice
from autoglm.engine.speculation import Speculator


class Guesser(Speculator):
    """Drafts from ``answers`` by (request, choice), up to ``length`` tokens; each is wrong with chance ``wrong``."""

    def __init__(
        self, answers: Mapping[tuple[str, int], Sequence[int]], draw: random.Random, length: int, wrong: float
    ) -> None:
        super().__init__(length, max_rows=64)
        self._answers, self._draw, self._wrong = answers, draw, wrong
        self.rejected: list[tuple[int, ...]] = []

    def plan(self, sequences: Sequence[Choice], room: int) -> None:
        left = room - len(sequences)
        for sequence in sequences:
            known = self._answers.get((sequence.request_id, sequence.index), ())
            count = min(self._draw.randint(0, self._length), left, sequence.max_tokens - sequence.generated - 1)
            draft = list(known[sequence.generated : sequence.generated + max(count, 0)])
            for place in range(len(draft)):
                if self._draw.random() < self._wrong:
                    draft[place] = (draft[place] + 1 + self._draw.randrange(200)) % 256
            left -= len(draft)
            self._outlook(sequence).draft = tuple(draft)


def guess(
    engine: Engine, answers: Mapping[tuple[str, int], Sequence[int]], draw: random.Random, length: int, wrong: float
) -> Guesser:
    """Let a guesser draft for ``engine``."""
    guesser = Guesser(answers, draw, length, wrong)
    engine.speculator = engine.scheduler._speculator = guesser
    return guesser
