"""One decision: a screen is shown to the model, and its output read until it is an action."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from autoglm.agent.actions import Action
from autoglm.agent.config import AgentConfig
from autoglm.agent.dialogue import Dialogue
from autoglm.agent.events import OutputRejected, ThoughtDelta, Waterfall
from autoglm.agent.model_client import Answer, ModelClient, Usage
from autoglm.agent.reading import OutputReader
from autoglm.errors import ActionParseError


@dataclass(frozen=True, slots=True)
class Decision:
    """What the model decided, and what that cost: the deciding parts of a waterfall."""

    think: str
    action: Action
    waterfall: Waterfall
    usage: Usage


async def decide(
    model: ModelClient, dialogue: Dialogue, config: AgentConfig, step: int
) -> AsyncGenerator[ThoughtDelta | OutputRejected | Decision, None]:
    """Ask about the screen that ``dialogue`` shows, until an output is an action; the dialogue gets that output.

    The last item is the :class:`Decision`; there is none if every try was rejected.

    Raises:
        AutoGLMError: the model's server failed; see :meth:`ModelClient.ask` and :meth:`Answer.pieces`.
    """
    spent = Waterfall(tries=0)
    for tries in range(1, config.output_tries + 1):
        start = time.perf_counter()
        body = model.encode(dialogue.messages, None if tries == 1 else config.retry_temperature)
        spent = replace(spent, encode=spent.encode + _ms(start, time.perf_counter()), tries=tries)
        reader = OutputReader()
        async with model.ask(body) as answer:
            async with aclosing(_read(answer, reader, step)) as items:
                async for item in items:
                    if isinstance(item, ThoughtDelta):
                        yield item
                    else:
                        first, last = item
            spent = replace(
                spent,
                prefill=spent.prefill + _ms(answer.sent_at, first),
                decode=spent.decode + _ms(first, last),
            )
        try:
            think, action = reader.finish()
        except ActionParseError as error:
            yield OutputRejected(step, reader.text, error.message, retrying=tries < config.output_tries)
            continue
        dialogue.answer(reader.text)
        yield Decision(think, action, spent, answer.usage)
        return


async def _read(
    answer: Answer, reader: OutputReader, step: int
) -> AsyncGenerator[ThoughtDelta | tuple[float, float], None]:
    """The thought as it grows; at last, when the first text came and when the action was complete."""
    first = last = 0.0
    async with aclosing(answer.pieces()) as pieces:
        async for piece in pieces:
            first = first or piece.at
            if reader.action is None:
                last = piece.at
            if new := reader.feed(piece.text):
                yield ThoughtDelta(step, new)
            if reader.running_on:
                break
    yield first or (end := time.perf_counter()), last or end


def _ms(start: float, end: float) -> float:
    return 1e3 * (end - start)
