"""Perceive, decide, act: the loop that operates a phone."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from autoglm.agent.actions import Action, CallApi, Finish, Interact, Note, TakeOver, Tap
from autoglm.agent.config import AgentConfig
from autoglm.agent.decide import Decision, decide
from autoglm.agent.devices.base import Device, Screenshot
from autoglm.agent.dialogue import Dialogue
from autoglm.agent.events import (
    Acted,
    Answered,
    ConfirmationNeeded,
    Decided,
    Ended,
    Event,
    Outcome,
    OutputRejected,
    State,
    StepStarted,
    StepTimed,
    TakeOverNeeded,
    Waterfall,
)
from autoglm.agent.model_client import ModelClient
from autoglm.agent.repeats import RepeatDetector
from autoglm.agent.threads import in_thread
from autoglm.errors import AutoGLMError, InvalidInputError

Confirm = Callable[[Tap], Awaitable[bool]]
"""Asks a person whether a sensitive tap may be done."""
Hand = Callable[[TakeOver | Interact], Awaitable[bool]]
"""Gives the phone to a person; true once they are done, false if they will not."""

_log = logging.getLogger(__name__)
_NEXT = {
    State.IDLE: {State.PERCEIVING},
    State.PERCEIVING: {State.DECIDING},
    State.DECIDING: {State.CONFIRMING, State.ACTING, State.TAKEN_OVER},
    State.CONFIRMING: {State.ACTING},
    State.ACTING: {State.PERCEIVING},
    State.TAKEN_OVER: {State.PERCEIVING},
    State.ENDED: {State.PERCEIVING},
}
"""Besides ``ENDED``, which every state of a run may go to."""


async def refuse(_: Tap | TakeOver | Interact) -> bool:
    """The answer of a person who is not there."""
    return False


@dataclass(slots=True)
class _Run:
    """One task: the conversation, the step it is in, and how it ended."""

    dialogue: Dialogue
    repeats: RepeatDetector
    step: int = 0
    waterfall: Waterfall = field(default_factory=Waterfall)
    end: tuple[Outcome, str] | None = None


class Agent:
    """Operates one phone with one model; one run at a time.

    Args:
        device: owned from here on; :meth:`close` closes it.
        model: likewise.
        confirm: asked before a tap that the model marked as sensitive.
        take_over: asked when the model hands the phone over (``Take_over``, ``Interact``).
        after_sensitive: called, in a thread, once a confirmed tap has been done or a person has given the phone back:
            what was remembered of the session may be wrong from then on. See :mod:`autoglm.agent.session_cache`.
    """

    def __init__(
        self,
        device: Device,
        model: ModelClient,
        config: AgentConfig | None = None,
        confirm: Confirm = refuse,
        take_over: Hand = refuse,
        after_sensitive: Callable[[], object] | None = None,
    ) -> None:
        self.device = device
        self.model = model
        self.config = config or AgentConfig()
        self.state = State.IDLE
        self.step = 0
        self._confirm = confirm
        self._take_over = take_over
        self._after_sensitive = after_sensitive

    async def close(self) -> None:
        """Let go of device and model."""
        await self.model.close()
        await in_thread(self.device.close)

    async def forget(self) -> None:
        """Call ``after_sensitive``: for who lets a person act on the phone in the middle of a run."""
        if self._after_sensitive is not None:
            await in_thread(self._after_sensitive)

    async def run(self, instruction: str) -> AsyncGenerator[Event, None]:
        """Do a task; :class:`Ended` is the last event, always. Use ``contextlib.aclosing``, or read to the end.

        Failures of the model, its server and the phone are outcomes. Cancelled or closed early, nothing is left
        running: the request is dropped, which stops the server's work, and a device call in progress is waited for.

        Raises:
            InvalidInputError: a run is in progress, or the instruction is empty.
        """
        if self.state not in (State.IDLE, State.ENDED):
            raise InvalidInputError("a run is in progress", field="run", value=self.state)
        if not instruction.strip():
            raise InvalidInputError("an instruction is needed", field="instruction", value=instruction)
        config = self.config
        run = _Run(Dialogue(instruction, config.system_prompt), RepeatDetector(config.repeats, config.max_period))
        self.step = 0
        try:
            while run.end is None:
                async with aclosing(self._step(run)) as events:
                    async for event in events:
                        yield event
        finally:
            self.state = State.ENDED
        yield Ended(*run.end, run.step)

    def _enter(self, state: State) -> None:
        assert state in _NEXT[self.state], f"{self.state} to {state}"
        self.state = state

    async def _step(self, run: _Run) -> AsyncGenerator[Event, None]:
        self._enter(State.PERCEIVING)
        if run.step == self.config.max_steps:
            run.end = Outcome.STEP_LIMIT, f"not finished after {run.step} steps"
            return
        run.step = self.step = run.step + 1
        screen = await self._capture(run)
        if screen is None:
            return
        yield StepStarted(run.step, screen)
        self._enter(State.DECIDING)
        decision: Decision | None = None
        async with aclosing(self._decide(run, screen)) as items:
            async for item in items:
                if isinstance(item, Decision):
                    decision = item
                else:
                    yield item
        if decision is None:
            return
        yield Decided(run.step, decision.think, decision.action)
        period = run.repeats.add(screen.png, decision.action)
        if period:
            run.end = Outcome.STUCK, _stuck(period, self.config.repeats)
        else:
            async with aclosing(self._carry_out(run, decision.action)) as events:
                async for event in events:
                    yield event
        yield StepTimed(run.step, run.waterfall, decision.usage)

    async def _capture(self, run: _Run) -> Screenshot | None:
        start = time.perf_counter()
        try:
            screen = await in_thread(self.device.capture)
        except Exception as error:
            run.end = Outcome.DEVICE_ERROR, _message(error)
            return None
        run.waterfall = Waterfall(capture=_since(start))
        return screen

    async def _decide(self, run: _Run, screen: Screenshot) -> AsyncGenerator[Event | Decision, None]:
        """What :func:`decide` says; on failure the run ends instead of raising."""
        start = time.perf_counter()
        run.dialogue.show(screen)
        shown = _since(start)
        rejected: OutputRejected | None = None
        try:
            async with aclosing(decide(self.model, run.dialogue, self.config, run.step)) as items:
                async for item in items:
                    if isinstance(item, Decision):
                        spent = item.waterfall
                        run.waterfall = replace(spent, capture=run.waterfall.capture, encode=shown + spent.encode)
                        rejected = None
                    elif isinstance(item, OutputRejected):
                        rejected = item
                    yield item
        except AutoGLMError as error:
            run.end = Outcome.MODEL_ERROR, error.message
        else:
            if rejected is not None:
                run.end = Outcome.UNPARSEABLE, rejected.reason

    async def _carry_out(self, run: _Run, action: Action) -> AsyncGenerator[Event, None]:
        if isinstance(action, TakeOver | Interact):
            self._enter(State.TAKEN_OVER)
            message = action.message if isinstance(action, TakeOver) else "the agent asks you to choose"
            seconds = self.config.take_over_timeout
            yield TakeOverNeeded(run.step, action, message, seconds)
            yield Answered(run.step, await self._ask(run, self._take_over(action), seconds, message))
            if run.end is None:
                await self.forget()
            return
        if isinstance(action, Tap) and action.message is not None:
            self._enter(State.CONFIRMING)
            seconds = self.config.confirm_timeout
            yield ConfirmationNeeded(run.step, action, action.message, seconds)
            yield Answered(run.step, await self._ask(run, self._confirm(action), seconds, action.message))
            if run.end is not None:
                return
        self._enter(State.ACTING)
        if isinstance(action, Finish):
            run.end = Outcome.FINISHED, action.message
            return
        yield await self._perform(run, action)
        if isinstance(action, Tap) and action.message is not None and run.end is None:
            await self.forget()

    async def _ask(self, run: _Run, answer: Awaitable[bool], seconds: float, message: str) -> bool | None:
        """A person's answer; a refusal or silence ends the run."""
        start = time.perf_counter()
        granted: bool | None = None
        try:
            async with asyncio.timeout(seconds):
                granted = bool(await answer)
        except TimeoutError:
            run.end = Outcome.UNANSWERED, f"nobody answered in {seconds:g} s: {message}"
        if granted is False:
            run.end = Outcome.DENIED, f"refused: {message}"
        run.waterfall = replace(run.waterfall, waited=_since(start))
        return granted

    async def _perform(self, run: _Run, action: Action) -> Acted:
        """On the phone. An action that cannot be done there is for the model to see; a broken phone ends the run."""
        start = time.perf_counter()
        changed, note = False, ""
        try:
            # Note and Call_API are for the model's own memory; the client does nothing for them.
            if not isinstance(action, Note | CallApi):
                changed = await in_thread(self.device.perform, action)
        except InvalidInputError as error:
            note = error.message
        except Exception as error:
            note = _message(error)
            run.end = Outcome.DEVICE_ERROR, note
        run.waterfall = replace(run.waterfall, act=_since(start))
        return Acted(run.step, action, changed, note)


async def follow(agent: Agent, instruction: str, publish: Callable[[Event], None]) -> Ended:
    """Run a task and hand every event to ``publish``. Cancelled, the last one is an ``Ended`` that says so."""
    last: Event | None = None
    try:
        async with aclosing(agent.run(instruction)) as events:
            async for last in events:
                publish(last)
    except asyncio.CancelledError:
        publish(Ended(Outcome.CANCELLED, "the run was stopped", agent.step))
        raise
    assert isinstance(last, Ended)
    return last


def _message(error: Exception) -> str:
    if isinstance(error, AutoGLMError):
        return error.message
    _log.error("the device failed in a way it does not document", exc_info=error)
    return f"{type(error).__name__}: {error}"


def _stuck(period: int, repeats: int) -> str:
    what = "the same action on the same screen" if period == 1 else f"the same {period} steps on the same screens"
    return f"{what}, {repeats} times in a row"


def _since(start: float) -> float:
    return 1e3 * (time.perf_counter() - start)
