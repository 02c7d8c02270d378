"""A request's events: joined while nobody reads, never lost, never out of order within a choice."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.errors import AutoGLMError, EngineUnavailableError
from autoglm.messages import Accepted, ErrorInfo, Failed, Finish, Output, TokenLogprob, Usage
from autoglm.server.stream import ChoiceEvent, RequestStream

ACCEPTED = Accepted(id="r", prompt_tokens=1, image_tokens=0, max_tokens=8)
FINISH = Finish(reason="stop", usage=Usage(prompt_tokens=1, completion_tokens=1, cached_tokens=0, image_tokens=0))


@dataclass(frozen=True)
class Read:
    """The reader takes one event, if there is one."""


def output(index: int, token: int, finish: Finish | None = None, logprobs: bool = False) -> Output:
    found = [TokenLogprob(token=str(token), raw=b"", logprob=0.0, top=[])] if logprobs else None
    return Output(id="r", index=index, text=f"{token} ", token_ids=[token], logprobs=found, finish=finish)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.integers(1, 3), st.lists(st.one_of(st.integers(0, 2), st.just(Read())), max_size=60), st.booleans())
def test_nothing_is_lost(choices: int, plan: list[int | Read], logprobs: bool) -> None:
    async def run() -> None:
        stream = RequestStream("r", choices)
        stream.put(ACCEPTED)
        sent: dict[int, list[int]] = {i: [] for i in range(choices)}
        got: list[ChoiceEvent] = []
        waiting = 1
        for number, action in enumerate(plan):
            if isinstance(action, Read):
                if waiting:
                    got.append(await asyncio.wait_for(stream.next(), 60) or ACCEPTED)
                    waiting = len(stream._events)
            else:
                index = action % choices
                sent[index].append(number)
                stream.put(output(index, number, None, logprobs))
                waiting = len(stream._events)
        assert not stream.complete
        for index in range(choices):
            stream.put(output(index, 1000, FINISH, logprobs))
            sent[index].append(1000)
        assert stream.complete
        while (event := await stream.next()) is not None:
            got.append(event)
        assert got[0] == ACCEPTED
        for index in range(choices):
            own = [e for e in got if isinstance(e, Output) and e.index == index]
            assert [t for e in own for t in e.token_ids] == sent[index]
            assert "".join(e.text for e in own) == "".join(f"{t} " for t in sent[index])
            assert [e.finish for e in own if e.finish] == [FINISH]
            assert own[-1].finish == FINISH
            if logprobs:
                assert [t.token for e in own for t in e.logprobs or []] == [str(t) for t in sent[index]]

    asyncio.run(run())


async def test_a_slow_reader_has_a_short_queue() -> None:
    stream = RequestStream("r", 1)
    for token in range(1000):
        stream.put(output(0, token))
    first = await stream.next()
    assert isinstance(first, Output)
    assert first.token_ids == list(range(1000))


async def test_an_error_comes_after_what_came_before() -> None:
    stream = RequestStream("r", 1)
    stream.put(output(0, 1))
    stream.fail(EngineUnavailableError("first"))
    stream.put(Failed("r", ErrorInfo(kind="internal_error", message="second")))
    assert stream.complete
    assert isinstance(await stream.next(), Output)
    for _ in range(2):
        with pytest.raises(AutoGLMError, match="first"):
            await stream.next()
