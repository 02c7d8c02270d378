"""The agent loop as a library: an expert behind an OpenAI-compatible address operates a simulated phone.

The expert is a program that knows the phone's state; it stands where a model's server would, so this runs without
weights. With a model, start ``autoglm serve MODEL`` and give its address to ``ModelConfig`` instead.

    python examples/agent_loop.py [--seed 7]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from autoglm.agent.actions import Finish, Interact, TakeOver, Tap, format_action
from autoglm.agent.config import AgentConfig
from autoglm.agent.devices.simulated import SimulatedPhone
from autoglm.agent.events import Acted, Decided, Ended, Event, StepTimed
from autoglm.agent.loop import Agent, follow
from autoglm.agent.model_client import ModelClient, ModelConfig
from autoglm.agent.tasks.base import Task
from autoglm.agent.tasks.oracle import oracle
from autoglm.agent.tasks.splits import SPLITS
from autoglm.agent.tasks.starts import new_start


def main() -> int:
    """Do one task; 0 if the phone ends where the task wants it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=7, help="of the phone and the task")
    task, phone = new_start(random.Random(parser.parse_args().seed), SPLITS["train"])
    print(f"{phone.name}: {task.instruction}")
    with expert_server(task, phone) as url:
        events = asyncio.run(operate(phone, task.instruction, url))
    done = [event.action for event in events if isinstance(event, Decided)]
    confirmed = any(isinstance(action, Tap) and action.message is not None for action in done)
    ending = done[-1] if done and isinstance(done[-1], Finish | TakeOver) else None
    reached = task.judge(phone, ending, confirmed)
    print("the phone is where the task wants it" if reached else "the phone is not where the task wants it")
    return 0 if reached else 1


async def operate(phone: SimulatedPhone, instruction: str, url: str) -> list[Event]:
    """One run, printed; its events."""
    events: list[Event] = []

    def watch(event: Event) -> None:
        events.append(event)
        if isinstance(event, Decided):
            print(f"{event.step}. {event.think}\n   {format_action(event.action)}")
        elif isinstance(event, Acted) and event.note:
            print(f"   not done: {event.note}")
        elif isinstance(event, StepTimed):
            print(f"   {event.waterfall.to_action:.0f} ms to the action, {event.waterfall.act:.0f} ms to do it")
        elif isinstance(event, Ended):
            print(f"{event.outcome.value}: {event.message}")

    agent = Agent(phone, ModelClient(ModelConfig(url)), AgentConfig(max_steps=30), confirm=agree)
    try:
        await follow(agent, instruction, watch)
    finally:
        await agent.close()
    return events


async def agree(question: Tap | TakeOver | Interact) -> bool:
    """The person of this example allows everything."""
    print(f"   confirmed: {question}")
    return True


@contextmanager
def expert_server(task: Task, phone: SimulatedPhone) -> Iterator[str]:
    """The expert's address while it answers."""
    last_think = ""

    class Expert(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the library's name
            nonlocal last_think
            self.rfile.read(int(self.headers["Content-Length"]))
            decision = oracle(task, phone, last_think)
            last_think = decision.think
            text = f"<think>{decision.think}</think>\n<answer>{format_action(decision.action)}"
            chunk = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]}
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode())

        def log_message(self, *_: object) -> None:
            """Nothing: the run itself is printed."""

    with HTTPServer(("127.0.0.1", 0), Expert) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            thread.join()


if __name__ == "__main__":
    raise SystemExit(main())
