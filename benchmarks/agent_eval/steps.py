"""Single steps: screens from all over an episode, one question each."""

from __future__ import annotations

import random
from dataclasses import dataclass

from autoglm.agent.actions import Action, format_action
from autoglm.agent.config import AgentConfig
from autoglm.agent.decide import Decision, decide
from autoglm.agent.devices.base import Screenshot
from autoglm.agent.dialogue import Dialogue
from autoglm.agent.model_client import ModelClient
from autoglm.agent.tasks.scenes import Sample, scene
from autoglm.agent.tasks.view import View
from autoglm.errors import AutoGLMError
from benchmarks.agent_eval.score import same_step


@dataclass(frozen=True, slots=True)
class StepScore:
    """One step. ``found`` is None where the model's output was no action."""

    right: bool
    same_think: bool
    kind: str
    family: str
    language: str
    theme: str
    wanted: str
    found: str | None


async def score_step(client: ModelClient, seed: int, split: str) -> StepScore:
    """Ask about one screen; the seed decides which."""
    one = scene(random.Random(f"{split}/step/{seed}"), split, 1)
    (sample,) = one.samples
    target = sample.task.decide(View(one.phone), sample.last_think).target
    think, action = await _ask(client, one.phone.capture(), sample)
    right = action is not None and same_step(one.phone, sample.action, target, action)
    return StepScore(
        right,
        think == sample.think,
        type(sample.action).__name__,
        sample.task.template_id.split(".")[0],
        sample.task.language,
        one.phone.spec.theme,
        f"{sample.instruction} | {sample.last_think} | {sample.think} | {format_action(sample.action)}",
        None if action is None else f"{think} | {format_action(action)}",
    )


async def _ask(client: ModelClient, screen: Screenshot, sample: Sample) -> tuple[str, Action | None]:
    dialogue = Dialogue(sample.instruction)
    if sample.last_think:
        dialogue.show(screen)
        dialogue.answer(f'<think>{sample.last_think}</think><answer>do(action="Back")')
    dialogue.show(screen)
    try:
        async for item in decide(client, dialogue, AgentConfig(output_tries=1), 1):
            if isinstance(item, Decision):
                return item.think, item.action
    except AutoGLMError:
        return "", None
    return "", None
