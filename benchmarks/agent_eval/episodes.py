"""Whole tasks, from the instruction to the end, through the agent loop."""

from __future__ import annotations

import random
from contextlib import aclosing
from dataclasses import dataclass

from autoglm.agent.actions import Action, Finish, Interact, TakeOver, Tap, format_action
from autoglm.agent.config import AgentConfig
from autoglm.agent.events import Decided, Ended, StepTimed, Waterfall
from autoglm.agent.loop import Agent
from autoglm.agent.model_client import ModelClient, ModelConfig, Usage
from autoglm.agent.tasks.splits import SPLITS
from autoglm.agent.tasks.starts import new_start

MAX_STEPS = 25
LANGUAGES, THEMES = ("zh", "en"), ("light", "dark")


@dataclass(frozen=True, slots=True)
class EpisodeScore:
    """One task."""

    success: bool
    template: str
    language: str
    theme: str
    instruction: str
    outcome: str
    actions: tuple[str, ...]
    waterfalls: tuple[Waterfall, ...]
    usages: tuple[Usage, ...]


async def _yes(_: Tap) -> bool:
    return True


async def _no(_: TakeOver | Interact) -> bool:
    return False


async def run_episode(config: ModelConfig, seed: int, split: str) -> EpisodeScore:
    """Do one task. The seed decides it; languages and themes take turns."""
    language, theme = LANGUAGES[seed % 2], THEMES[seed // 2 % 2]
    task, phone = new_start(random.Random(f"{split}/episode/{seed}"), SPLITS[split], language=language, theme=theme)
    agent = Agent(phone, ModelClient(config), AgentConfig(max_steps=MAX_STEPS), confirm=_yes, take_over=_no)
    decided: list[Action] = []
    waterfalls, usages, outcome = [], [], ""
    try:
        async with aclosing(agent.run(task.instruction)) as events:
            async for event in events:
                if isinstance(event, Decided):
                    decided.append(event.action)
                elif isinstance(event, StepTimed):
                    waterfalls.append(event.waterfall)
                    usages.append(event.usage)
                elif isinstance(event, Ended):
                    outcome = f"{event.outcome}: {event.message}"
    finally:
        await agent.close()
    ending = decided[-1] if decided and isinstance(decided[-1], Finish | TakeOver) else None
    confirmed = any(isinstance(action, Tap) and action.message is not None for action in decided)
    return EpisodeScore(
        task.judge(phone, ending, confirmed),
        task.template_id,
        task.language,
        theme,
        task.instruction,
        outcome,
        tuple(format_action(action) for action in decided),
        tuple(waterfalls),
        tuple(usages),
    )
