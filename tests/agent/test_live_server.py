"""The loop's client against the project's own server and a random model: real usage, real refusals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from autoglm.agent.config import AgentConfig
from autoglm.agent.devices.simulated import PhoneSpec, SimulatedPhone
from autoglm.agent.dialogue import Dialogue
from autoglm.agent.events import Ended, Event, Outcome, OutputRejected
from autoglm.agent.loop import Agent, follow
from autoglm.agent.model_client import ModelClient, ModelConfig, Usage
from autoglm.errors import NotFoundError
from tests.server.harness import LiveServer, engine_command


@pytest.fixture(scope="module")
def server(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    live = LiveServer(tmp_path_factory.mktemp("log") / "server.log", engine_command(checkpoint))
    try:
        live.wait_ready()
        yield live
        live.wait_idle()
        assert live.stop() == 0
    finally:
        live.close()


async def read(client: ModelClient, dialogue: Dialogue) -> tuple[str, Usage]:
    async with client.ask(client.encode(dialogue.messages)) as answer, aclosing(answer.pieces()) as pieces:
        text = "".join([piece.text async for piece in pieces])
    assert answer.finish_reason in ("stop", "length")
    return text, answer.usage


async def test_usage_and_cache_hits(server: LiveServer) -> None:
    phone = SimulatedPhone(PhoneSpec.random(1))
    dialogue = Dialogue("open the settings", "You operate a phone. " * 20)
    dialogue.show(phone.capture())
    client = ModelClient(ModelConfig(f"{server.url}/v1", max_tokens=6))
    try:
        first_text, first = await read(client, dialogue)
        again_text, again = await read(client, dialogue)
    finally:
        await client.close()
    assert first_text == again_text
    assert first.prompt_tokens == again.prompt_tokens
    assert first.completion_tokens is not None
    assert 1 <= first.completion_tokens <= 6
    assert first.image_tokens
    assert again.cached_tokens == (again.prompt_tokens or 0) - 1  # all but the token whose logits are needed


async def test_a_random_models_nonsense_is_reported(server: LiveServer) -> None:
    events: list[Event] = []
    model = ModelClient(ModelConfig(f"{server.url}/v1", max_tokens=8))
    agent = Agent(SimulatedPhone(PhoneSpec.random(2)), model, AgentConfig(max_steps=3))
    try:
        ended = await follow(agent, "open the settings", events.append)
    finally:
        await agent.close()
    assert ended.outcome is Outcome.UNPARSEABLE
    assert [event.retrying for event in events if isinstance(event, OutputRejected)] == [True, False]
    assert sum(isinstance(event, Ended) for event in events) == 1


async def test_an_unknown_model_is_named(server: LiveServer) -> None:
    client = ModelClient(ModelConfig(f"{server.url}/v1", model="another"))
    dialogue = Dialogue("go")
    dialogue.show(SimulatedPhone(PhoneSpec.random(3)).capture())
    try:
        with pytest.raises(NotFoundError) as caught:
            await read(client, dialogue)
    finally:
        await client.close()
    assert caught.value.field == "model"
