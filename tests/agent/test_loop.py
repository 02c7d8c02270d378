"""The loop: every outcome, people's answers, retry, circles, limits, cancellation. Real HTTP, a device with state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from itertools import pairwise
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoglm.agent.actions import Action, Back, CallApi, Home, Interact, Launch, Note, TakeOver, Tap, format_action
from autoglm.agent.config import AgentConfig
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
    ThoughtDelta,
)
from autoglm.agent.loop import Agent, follow
from autoglm.agent.model_client import ModelClient, ModelConfig, Usage
from autoglm.agent.repeats import RepeatDetector
from autoglm.errors import InvalidInputError
from tests.agent.model_server import ModelServer, Refuse, Reply, Say
from tests.agent.phone import CounterPhone
from tests.agent.strategies import actions

T = TypeVar("T")
ADD, MISS, PAY = Tap((1, 1)), Tap((1, 999)), Tap((1, 1), "pay 5 yuan")


def say(action: Action, think: str = "so") -> str:
    return f"<think>{think}</think>\n<answer>{format_action(action)}"


DONE = 'finish(message="done")'


async def yes(_: Any) -> bool:
    return True


async def no(_: Any) -> bool:
    return False


async def never(_: Any) -> bool:
    await asyncio.sleep(60)
    return True


@asynccontextmanager
async def agent_of(model: ModelServer, phone: CounterPhone, **given: Any) -> AsyncIterator[Agent]:
    callbacks = {name: given.pop(name) for name in ("confirm", "take_over", "after_sensitive") if name in given}
    client = ModelClient(ModelConfig(model.url, retries=0))
    agent = Agent(phone, client, AgentConfig(**given), **callbacks)
    try:
        yield agent
    finally:
        await agent.close()


async def run(model: ModelServer, phone: CounterPhone, *replies: Reply | str, **given: Any) -> list[Event]:
    """All events of one run."""
    model.script(*replies)
    events: list[Event] = []
    async with agent_of(model, phone, **given) as agent:
        ended = await follow(agent, "count to three", events.append)
        assert ended is events[-1]
        assert agent.state is State.ENDED
    assert phone.closed == 1
    return events


def of(kind: type[T], events: list[Event]) -> list[T]:
    return [event for event in events if isinstance(event, kind)]


def end(events: list[Event]) -> Ended:
    (ended,) = of(Ended, events)
    assert events[-1] is ended
    return ended


async def test_a_task_from_start_to_end(model: ModelServer) -> None:
    phone = CounterPhone()
    events = await run(model, phone, say(ADD, "一"), say(ADD, "二"), say(Back(), "太多"), DONE)
    assert end(events) == Ended(Outcome.FINISHED, "done", 4)
    assert phone.done == [ADD, ADD, Back()]
    assert [e.screenshot.current_app for e in of(StepStarted, events)] == ["page 0", "page 1", "page 2", "page 1"]
    assert "".join(e.text for e in of(ThoughtDelta, events)) == "一二太多"
    assert [e.think for e in of(Decided, events)] == ["一", "二", "太多", ""]
    assert all(e.changed for e in of(Acted, events))
    timed = of(StepTimed, events)
    assert [e.step for e in timed] == [1, 2, 3, 4]
    for event in timed:
        parts = event.waterfall
        assert min(parts.capture, parts.encode, parts.prefill) > 0
        assert parts.decode >= 0
        assert parts.total == pytest.approx(parts.to_action + parts.waited + parts.act)
        assert event.usage == Usage(100, 60, 9, 7)
    order = [type(e) for e in events if not isinstance(e, ThoughtDelta)]
    assert order == [StepStarted, Decided, Acted, StepTimed] * 3 + [StepStarted, Decided, StepTimed, Ended]


async def test_only_the_newest_screen_is_sent(model: ModelServer) -> None:
    await run(model, CounterPhone(), say(ADD), say(ADD), DONE, system_prompt="be good")
    for step, request in enumerate(model.requests):
        roles = [message["role"] for message in request["messages"]]
        assert roles == ["system", *["user", "assistant"] * step, "user"]
        kinds = [[part["type"] for part in m["content"]] for m in request["messages"] if m["role"] == "user"]
        assert kinds == [["text"]] * step + [["image_url", "text"]]


@pytest.mark.parametrize(
    "bad", ["I am done.", 'do(action="Tap", element=[2000,1])', "", 'do(action="Back") ' + "x" * 500]
)
async def test_unparseable_output_is_tried_once_more(model: ModelServer, bad: str) -> None:
    phone = CounterPhone()
    events = await run(model, phone, bad, say(ADD), DONE)
    assert end(events).outcome is Outcome.FINISHED
    (rejected,) = of(OutputRejected, events)
    assert rejected.retrying
    assert bad.startswith(rejected.output)
    first, second, third = model.requests
    assert first["messages"] == second["messages"]
    assert (first["temperature"], second["temperature"], third["temperature"]) == (0, 0.7, 0)
    assert "assistant" not in [m["role"] for m in second["messages"]]
    assert [e.waterfall.tries for e in of(StepTimed, events)] == [2, 1]


async def test_unparseable_output_twice_is_no_success(model: ModelServer) -> None:
    phone = CounterPhone()
    events = await run(model, phone, "done!", "done!!", DONE)
    assert end(events).outcome is Outcome.UNPARSEABLE
    assert "no action" in end(events).message
    assert [e.retrying for e in of(OutputRejected, events)] == [True, False]
    assert phone.done == []
    assert len(model.requests) == 2


async def test_a_model_that_runs_on_is_cut_off(model: ModelServer) -> None:
    events = await run(model, CounterPhone(), Say(say(ADD) + " and" * 5000, then="hang"), DONE)
    assert end(events).outcome is Outcome.FINISHED
    (rejected,) = of(OutputRejected, events)
    assert len(rejected.output) < 200
    assert "follows" in rejected.reason


async def test_a_sensitive_tap_is_confirmed(model: ModelServer) -> None:
    phone, asked = CounterPhone(), []

    async def confirm(tap: Tap) -> bool:
        assert phone.done == []
        asked.append(tap)
        return True

    events = await run(model, phone, say(PAY), DONE, confirm=confirm)
    assert end(events).outcome is Outcome.FINISHED
    assert asked == phone.done == [PAY]
    (needed,) = of(ConfirmationNeeded, events)
    assert needed.message == "pay 5 yuan"
    assert of(Answered, events)[0].granted is True


@pytest.mark.parametrize(("said", "forgotten"), [(PAY, 1), (Tap((1, 1)), 0)])
async def test_a_sensitive_tap_makes_the_session_forgotten(model: ModelServer, said: Tap, forgotten: int) -> None:
    phone, seen = CounterPhone(), []

    async def yes(_: Tap) -> bool:
        return True

    await run(model, phone, say(said), DONE, confirm=yes, after_sensitive=lambda: seen.append(list(phone.done)))
    assert seen == [[PAY]] * forgotten  # after the tap, once


@pytest.mark.parametrize("message", ["pay", ""])
async def test_a_denied_tap_is_not_done(model: ModelServer, message: str) -> None:
    phone = CounterPhone()
    events = await run(model, phone, say(Tap((1, 1), message)), DONE, confirm=no)
    assert end(events).outcome is Outcome.DENIED
    assert phone.done == []
    assert of(Answered, events)[0].granted is False
    assert of(Acted, events) == []
    assert len(of(StepTimed, events)) == 1


async def test_without_anybody_to_ask_a_sensitive_tap_is_not_done(model: ModelServer) -> None:
    phone = CounterPhone()
    assert end(await run(model, phone, say(PAY), DONE)).outcome is Outcome.DENIED
    assert phone.done == []


async def test_a_question_nobody_answers(model: ModelServer) -> None:
    phone = CounterPhone()
    events = await run(model, phone, say(PAY), confirm=never, confirm_timeout=0.05)
    assert end(events).outcome is Outcome.UNANSWERED
    assert of(Answered, events)[0].granted is None
    assert phone.done == []
    events = await run(model, CounterPhone(), say(TakeOver("log in")), take_over=never, take_over_timeout=0.05)
    assert end(events).outcome is Outcome.UNANSWERED
    assert "log in" in end(events).message


@pytest.mark.parametrize("action", [TakeOver("log in"), Interact()])
async def test_take_over_pauses_for_the_person(model: ModelServer, action: TakeOver | Interact) -> None:
    phone = CounterPhone()
    states: list[State] = []

    async def take_over(asked: TakeOver | Interact) -> bool:
        assert asked == action
        states.append(agent.state)
        phone.count = 77  # the person's own work
        return True

    model.script(say(action), DONE)
    events: list[Event] = []
    async with agent_of(model, phone, take_over=take_over) as agent:
        await follow(agent, "log in", events.append)
    assert states == [State.TAKEN_OVER]
    assert end(events).outcome is Outcome.FINISHED
    assert of(TakeOverNeeded, events)[0].action == action
    assert of(StepStarted, events)[1].screenshot.current_app == "page 77"
    assert phone.done == []
    assert of(StepTimed, events)[0].waterfall.waited > 0


async def test_a_person_who_will_not_take_over(model: ModelServer) -> None:
    events = await run(model, CounterPhone(), say(TakeOver("log in")), DONE, take_over=no)
    assert end(events).outcome is Outcome.DENIED


async def test_the_step_limit(model: ModelServer) -> None:
    phone = CounterPhone()
    events = await run(model, phone, say(ADD), max_steps=5)
    assert end(events) == Ended(Outcome.STEP_LIMIT, "not finished after 5 steps", 5)
    assert phone.done == [ADD] * 5


async def test_the_same_action_on_the_same_screen(model: ModelServer) -> None:
    phone = CounterPhone()
    events = await run(model, phone, say(ADD), say(MISS), repeats=3)
    assert end(events) == Ended(Outcome.STUCK, "the same action on the same screen, 3 times in a row", 4)
    assert phone.done == [ADD, MISS, MISS]  # the third is decided and not done
    assert [e.changed for e in of(Acted, events)] == [True, False, False]


async def test_back_and_forth(model: ModelServer) -> None:
    phone = CounterPhone()
    events = await run(model, phone, *[say(ADD), say(Back())] * 9, DONE, repeats=3)
    assert end(events) == Ended(Outcome.STUCK, "the same 2 steps on the same screens, 3 times in a row", 6)


async def test_the_same_action_on_other_screens_is_fine(model: ModelServer) -> None:
    events = await run(model, CounterPhone(), *[say(ADD)] * 8, DONE, repeats=2)
    assert end(events).outcome is Outcome.FINISHED


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b"]), st.sampled_from([Back(), Home()])), max_size=14))
def test_repeats_equal_the_plain_definition(steps: list[tuple[bytes, Action]]) -> None:
    detector = RepeatDetector(repeats=3, max_period=2)
    for count in range(1, len(steps) + 1):
        periods = [p for p in (1, 2) if count >= 3 * p and _is_circle(steps[count - 3 * p : count], p)]
        assert detector.add(*steps[count - 1]) == min(periods, default=0)


def _is_circle(steps: list[tuple[bytes, Action]], period: int) -> bool:
    return all(steps[i] == steps[i % period] for i in range(len(steps)))


@pytest.mark.parametrize("fault", ["capture", "capture!", "perform", "perform!"])
async def test_a_broken_phone_is_an_outcome(model: ModelServer, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    events = await run(model, CounterPhone(fault), say(ADD))
    assert end(events).outcome is Outcome.DEVICE_ERROR
    assert end(events).message == ("ZeroDivisionError: undocumented" if "!" in fault else "the phone has gone")
    assert ("does not document" in caplog.text) == ("!" in fault)


async def test_what_the_phone_cannot_do_is_for_the_model_to_see(model: ModelServer) -> None:
    events = await run(model, CounterPhone(), say(Launch("WeChat")), DONE)
    (acted,) = of(Acted, events)
    assert (acted.changed, acted.note) == (False, "WeChat is not installed")
    assert end(events).outcome is Outcome.FINISHED


async def test_notes_do_not_touch_the_phone(model: ModelServer) -> None:
    phone = CounterPhone()
    await run(model, phone, say(Note()), say(CallApi("sum up")), DONE)
    assert phone.done == []


@pytest.mark.parametrize(
    "reply", [Refuse(503, {"error": {"message": "starting"}}), Refuse(500), Say("<think>", then="break")]
)
async def test_a_failing_server_is_an_outcome(model: ModelServer, reply: Reply) -> None:
    events = await run(model, CounterPhone(), say(ADD), reply)
    assert end(events).outcome is Outcome.MODEL_ERROR
    assert end(events).message
    assert end(events).steps == 2


async def cancel_when(agent: Agent, condition: Callable[[], bool], events: list[Event], times: int = 1) -> None:
    """Start a run, wait for the moment, cancel it; every event is in ``events``."""
    task = asyncio.create_task(follow(agent, "go", events.append))
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.005)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
    assert end(events) == Ended(Outcome.CANCELLED, "the run was stopped", agent.step)
    assert agent.state is State.ENDED


async def test_cancelled_while_deciding(model: ModelServer) -> None:
    model.script(Say("<think>long", then="hang"))
    events: list[Event] = []
    async with agent_of(model, CounterPhone()) as agent:
        await cancel_when(agent, lambda: bool(of(ThoughtDelta, events)), events)
        await until(lambda: model.open_streams == 0)
        assert agent.device.inside == 0  # type: ignore[attr-defined]
        # The same agent goes on with another task.
        model.script(DONE)
        assert (await follow(agent, "again", events.append)).outcome is Outcome.FINISHED


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("state", [State.PERCEIVING, State.ACTING])
async def test_cancelled_inside_a_device_call(model: ModelServer, state: State, times: int) -> None:
    model.script(say(ADD))
    phone, events = CounterPhone(), []
    async with agent_of(model, phone) as agent:
        phone.slow = 0.1
        await cancel_when(agent, lambda: agent.state is state and phone.inside == 1, events, times)
        assert phone.inside == 0  # waited for, not left behind


@pytest.mark.parametrize("action", [PAY, TakeOver("log in")])
async def test_cancelled_while_a_person_is_asked(model: ModelServer, action: Action) -> None:
    model.script(say(action))
    cancelled: list[Any] = []

    async def ask(question: Any) -> bool:
        try:
            return await never(question)
        finally:
            cancelled.append(question)

    events: list[Event] = []
    phone = CounterPhone()
    async with agent_of(model, phone, confirm=ask, take_over=ask) as agent:
        waiting = (State.CONFIRMING, State.TAKEN_OVER)
        await cancel_when(agent, lambda: agent.state in waiting, events)
    assert cancelled == [action]
    assert phone.done == []


async def test_closing_the_events_early_stops_the_run(model: ModelServer) -> None:
    model.script(Say("<think>long", then="hang"))
    before = asyncio.all_tasks()
    async with agent_of(model, CounterPhone()) as agent:
        async with aclosing(agent.run("go")) as events:
            async for event in events:
                if isinstance(event, ThoughtDelta):
                    break
        assert agent.state is State.ENDED
        await until(lambda: model.open_streams == 0)
    await until(lambda: asyncio.all_tasks() <= before)  # the server's own task of the connection ends a little later


async def test_one_run_at_a_time(model: ModelServer) -> None:
    model.script(DONE)
    async with agent_of(model, CounterPhone()) as agent, aclosing(agent.run("go")) as events:
        await anext(events)
        with pytest.raises(InvalidInputError, match="in progress"):
            await anext(agent.run("another"))


async def test_an_empty_instruction_is_refused(model: ModelServer) -> None:
    async with agent_of(model, CounterPhone()) as agent:
        with pytest.raises(InvalidInputError, match="instruction"):
            await anext(agent.run(" "))


@pytest.mark.parametrize("fields", [{"max_steps": 0}, {"repeats": 1}, {"confirm_timeout": float("nan")}])
def test_wrong_limits_are_named(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        AgentConfig(**fields)
    assert caught.value.field in fields


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.01)


ALLOWED = {
    None: {StepStarted, Ended},
    StepStarted: {ThoughtDelta, OutputRejected, Decided, Ended},
    ThoughtDelta: {ThoughtDelta, OutputRejected, Decided, Ended},
    OutputRejected: {ThoughtDelta, OutputRejected, Decided, Ended},
    Decided: {ConfirmationNeeded, TakeOverNeeded, Acted, StepTimed},
    ConfirmationNeeded: {Answered},
    TakeOverNeeded: {Answered},
    Answered: {Acted, StepTimed},
    Acted: {StepTimed},
    StepTimed: {StepStarted, Ended},
    Ended: set(),
}
replies = st.one_of(
    actions.map(say),
    st.sampled_from(["nonsense", say(ADD), say(MISS), say(PAY), DONE]),
    st.just(Refuse(400, {"error": {"message": "no"}})),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    script=st.lists(replies, min_size=1, max_size=8),
    fault=st.sampled_from(["", "", "", "capture", "perform!"]),
    granted=st.booleans(),
    limit=st.integers(1, 9),
)
def test_any_run_tells_one_orderly_story(
    shared_model: ModelServer, script: list[Reply | str], fault: str, granted: bool, limit: int
) -> None:
    answer: Callable[[Any], Awaitable[bool]] = yes if granted else no
    phone = CounterPhone(fault)
    events = asyncio.run(run(shared_model, phone, *script, confirm=answer, take_over=answer, max_steps=limit))
    kinds: list[Any] = [None, *map(type, events)]
    assert all(after in ALLOWED[before] for before, after in pairwise(kinds))
    assert [e.step for e in of(StepStarted, events)] == list(range(1, len(of(StepStarted, events)) + 1))
    ended = end(events)
    assert ended.steps <= limit
    sensitive = [a for a in phone.done if isinstance(a, Tap) and a.message is not None]
    assert granted or not sensitive
    if ended.outcome is Outcome.FINISHED:
        assert of(Decided, events)[-1].action.message == ended.message  # type: ignore[union-attr]
