"""From the logits of a drafted run to the tokens that would have come one by one."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from autoglm.engine.sampling import Choice, sample_row
from autoglm.engine.scheduler import Chunk
from autoglm.engine.sequence import Sequence, State


def settle(
    chunk: Chunk,
    logits: Tensor,
    row: int,
    computed: Callable[[Chunk], None],
    emit: Callable[[Sequence, Choice], None],
    best: list[int] | None = None,
) -> int:
    """Choose and emit a token after each row, up to the first that is not the one drafted there.

    Each row meets the sampler as it would have without a draft: its penalties and random numbers have seen exactly
    the tokens before it. So the answer is the same, drawn or not. KV of rows behind the first wrong token is left
    where it is; it is not counted as computed, so the next step writes over it.

    Args:
        logits: fp32 ``[rows, vocab]`` (may be overwritten); the chunk's begin at ``row``.
        best: the tokens of all rows, if they are known already (see :func:`autoglm.engine.sampling.best_at_once`).
        computed: told of each further row whose token turned out right, before the next one is chosen.

    Returns:
        tokens beyond the one that any step brings.
    """
    sequence = chunk.sequence
    sequence.drafted += len(chunk.draft)
    for place, drafted in enumerate((*chunk.draft, None)):
        if place:
            sequence.accepted += 1
            computed(Chunk(sequence, chunk.start + place, 1))
        choice = sample_row(logits, row + place, sequence.sampler) if best is None else Choice(best[place])
        emit(sequence, choice)
        if choice.token != drafted or sequence.state is State.FINISHED:
            return place
    raise AssertionError("no token equals None")
