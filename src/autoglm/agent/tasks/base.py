"""A task: an instruction, a goal on the phone's final state, and what an expert does next."""

from __future__ import annotations

from dataclasses import dataclass

from autoglm.agent.actions import Action
from autoglm.agent.devices.simulated.elements import Element


@dataclass(frozen=True, slots=True)
class Decision:
    """One step of an expert.

    Attributes:
        think: one short line in the instruction's language. It is also the only memory of the agent: the next
            decision sees the instruction, the screen, and this line.
        action: what to do.
        target: the element a tap means, for training and scoring; None for other actions.
    """

    think: str
    action: Action
    target: Element | None = None
