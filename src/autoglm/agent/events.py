"""What a run tells whoever watches it, in the order it happens."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from autoglm.agent.actions import Action, Interact, TakeOver, Tap
from autoglm.agent.devices.base import Screenshot
from autoglm.agent.model_client import Usage


class State(StrEnum):
    """Where a run stands."""

    IDLE = "idle"
    PERCEIVING = "perceiving"
    DECIDING = "deciding"
    CONFIRMING = "confirming"
    ACTING = "acting"
    TAKEN_OVER = "taken_over"
    ENDED = "ended"


class Outcome(StrEnum):
    """How a run ended. Only ``FINISHED`` is the model's own word; its message says what it thinks it reached."""

    FINISHED = "finished"
    DENIED = "denied"
    """A person refused a sensitive tap, or to take over."""
    UNANSWERED = "unanswered"
    """A person was asked and did not answer in time."""
    STEP_LIMIT = "step_limit"
    STUCK = "stuck"
    """The same actions on the same screens, over and over."""
    UNPARSEABLE = "unparseable"
    """The model wrote no action of the grammar, twice on one screen."""
    MODEL_ERROR = "model_error"
    DEVICE_ERROR = "device_error"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Waterfall:
    """Where the time of one step went, in milliseconds; one after the other, so they add up.

    Attributes:
        capture: the device's screenshot.
        encode: base64 and JSON of the request, on this side.
        prefill: request sent to first text: upload, image, prompt, and the server's queue.
        decode: first text to complete action.
        waited: a person was asked.
        act: the device carried the action out.
        tries: answers that were asked for; above 1, ``encode``, ``prefill`` and ``decode`` are sums.
    """

    capture: float = 0.0
    encode: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    waited: float = 0.0
    act: float = 0.0
    tries: int = 1

    @property
    def to_action(self) -> float:
        """From the start of the capture to the complete action."""
        return self.capture + self.encode + self.prefill + self.decode

    @property
    def total(self) -> float:
        """All of it, people's time included."""
        return self.to_action + self.waited + self.act


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A new screen was captured. Steps count from 1."""

    step: int
    screenshot: Screenshot


@dataclass(frozen=True, slots=True)
class ThoughtDelta:
    """New text of the thought, without tags."""

    step: int
    text: str


@dataclass(frozen=True, slots=True)
class OutputRejected:
    """The output was no action; ``retrying``: the same screen is shown to the model once more."""

    step: int
    output: str
    reason: str
    retrying: bool


@dataclass(frozen=True, slots=True)
class Decided:
    """The model's decision, before anything is done."""

    step: int
    think: str
    action: Action


@dataclass(frozen=True, slots=True)
class ConfirmationNeeded:
    """A sensitive tap waits for a person, for at most ``seconds``."""

    step: int
    action: Tap
    message: str
    seconds: float


@dataclass(frozen=True, slots=True)
class TakeOverNeeded:
    """The phone is the person's, for at most ``seconds``."""

    step: int
    action: TakeOver | Interact
    message: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Answered:
    """A person answered what was asked last; ``None``: nobody did in time."""

    step: int
    granted: bool | None


@dataclass(frozen=True, slots=True)
class Acted:
    """The action was carried out; ``changed`` is the device's own word, ``note`` why it could not be done."""

    step: int
    action: Action
    changed: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class StepTimed:
    """The step is over."""

    step: int
    waterfall: Waterfall
    usage: Usage


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event of every run; ``steps`` counts the screens looked at."""

    outcome: Outcome
    message: str
    steps: int


Event = (
    StepStarted
    | ThoughtDelta
    | OutputRejected
    | Decided
    | ConfirmationNeeded
    | TakeOverNeeded
    | Answered
    | Acted
    | StepTimed
    | Ended
)
