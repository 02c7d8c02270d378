"""The console's runs as sessions of the real server: what is remembered of them, and until when."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.console import spoken_engine
from tests.server.console.live import Console, Event, of, until
from tests.server.harness import LiveServer, wait_until

HOME = '<think>go</think><answer>do(action="Home")'
PAY = '<think>pay</think><answer>do(action="Tap", element=[500,500], message="pay")'
DONE = '<think>done</think><answer>finish(message="done")'
CACHING = {"responses": True, "model_tag": "test", "session_ttl": 77.0}


class Spoken:
    """A console whose model says given lines, in a server that remembers answers."""

    def __init__(self, server: LiveServer, console: Console, log: Path) -> None:
        self.server, self.console, self._log = server, console, log

    def commands(self, phone: str) -> list[dict[str, Any]]:
        """What the engine was told about a phone's session."""
        return [json.loads(line) for line in self._log.read_text().splitlines() if f":console-{phone}" in line]

    def dialogue(self) -> dict[str, int]:
        """The dialogue cache's figures."""
        return dict(self.server.http.get("/v1/cache/stats").json()["dialogue"])

    def wait_free(self, phone: str) -> None:
        """Until its task has ended."""
        wait_until(lambda: self.console.state(phone)["task"] is None, what="the task's end")

    def since(self, before: dict[str, int], *names: str) -> list[int]:
        """By how much figures of the dialogue cache have grown."""
        now = self.dialogue()
        return [now[name] - before[name] for name in names]


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spoken]:
    folder = tmp_path_factory.mktemp("spoken")
    commands, log = folder / "commands.jsonl", folder / "server.log"
    command = [sys.executable, spoken_engine.__file__, str(commands)]
    server = LiveServer(log, command, caching=CACHING, console={}, api_keys=["a-key"])
    console = Console(server.url, "a-key")
    try:
        server.wait_ready()
        yield Spoken(server, console, commands)
        console.close()
        assert server.stop() == 0
        assert "Traceback" not in log.read_text()
    finally:
        console.close()
        server.close()


def test_a_run_is_a_session_and_a_payment_ends_it(spoken: Spoken) -> None:
    phone = spoken.console.phone(seed=1)
    before = spoken.dialogue()
    events = spoken.console.run(phone, script(HOME, PAY, DONE), lambda event: answer(spoken, phone, event, allow=True))
    assert of("ended", events)[0]["outcome"] == "finished"
    first, second, forgotten, third = spoken.commands(phone)
    assert first == second == third == {"submit": first["submit"], "seconds": 77.0}
    assert forgotten == {"keep": first["submit"], "seconds": 0.0}
    # Two answers were there when the payment was done; only the one after it is left.
    assert spoken.since(before, "stores", "purges", "purged_entries") == [3, 1, 2]


def test_a_question_asked_again_is_not_computed_again(spoken: Spoken) -> None:
    one, other = spoken.console.phone(seed=1), spoken.console.phone(seed=1)
    before = spoken.dialogue()
    for phone, hits in ((one, 0), (one, 1), (other, 1)):
        assert spoken.console.start(phone, script(DONE)).status_code == 202
        spoken.wait_free(phone)
        assert spoken.since(before, "hits", "purges") == [hits, 0], "its own phone's answers, nobody else's"


def test_a_person_who_takes_over_ends_it_too(spoken: Spoken) -> None:
    phone = spoken.console.phone(seed=1)
    before = spoken.dialogue()
    with spoken.console.watch(phone) as events:
        assert spoken.console.start(phone, script(HOME, DONE), pause=3).status_code == 202
        until(events, "decided")
        assert spoken.console.post(phone, "take-over").status_code == 200
        until(events, "timed")
        assert spoken.since(before, "purges") == [0]
        assert spoken.console.post(phone, "resume").status_code == 200
        assert until(events, "ended")["outcome"] == "finished"
    assert spoken.since(before, "purges") == [1]


def test_a_refused_payment_ends_nothing(spoken: Spoken) -> None:
    phone = spoken.console.phone(seed=1)
    before = spoken.dialogue()
    events = spoken.console.run(phone, script(PAY), lambda event: answer(spoken, phone, event, allow=False))
    assert of("ended", events)[0]["outcome"] == "denied"
    assert spoken.since(before, "purges") == [0]


def script(*lines: str) -> str:
    """An instruction that the engine answers so, step by step."""
    return "||".join(lines)


def answer(spoken: Spoken, phone: str, event: Event, *, allow: bool) -> None:
    """Answer what is asked."""
    if event["type"] == "asked":
        question = event["question"]["question"]
        assert spoken.console.post(phone, "answer", question=question, allow=allow).status_code == 200
