"""Talking to a console as its page does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

Event = dict[str, Any]
ROOT = Path(__file__).resolve().parents[3]
API = "/console/api"


class Console:
    """Requests to one console. Every helper fails on an unexpected status."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = url
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.http = httpx.Client(base_url=url + API, timeout=120, headers=headers)

    def close(self) -> None:
        self.http.close()

    def phone(self, **wanted: Any) -> str:
        """A new phone's id."""
        found = self.http.post("/phones", json=wanted)
        assert found.status_code == 201, found.text
        return str(found.json()["id"])

    def state(self, phone: str) -> dict[str, Any]:
        found = self.http.get(f"/phones/{phone}")
        assert found.status_code == 200, found.text
        return dict(found.json())

    def suggestions(self, phone: str) -> list[str]:
        return list(self.http.get(f"/phones/{phone}/suggestions").json()["suggestions"])

    def screen(self, phone: str, etag: str = "") -> httpx.Response:
        return self.http.get(f"/phones/{phone}/screen", headers={"If-None-Match": etag} if etag else {})

    def act(self, phone: str, **gesture: Any) -> httpx.Response:
        return self.http.post(f"/phones/{phone}/input", json=gesture)

    def start(self, phone: str, instruction: str, **more: Any) -> httpx.Response:
        return self.http.post(f"/phones/{phone}/task", json={"instruction": instruction} | more)

    def post(self, phone: str, what: str, **body: Any) -> httpx.Response:
        return self.http.post(f"/phones/{phone}/{what}", json=body or None)

    @contextmanager
    def watch(self, phone: str, after: int | None = None) -> Iterator[Iterator[Event]]:
        """The phone's events as they come."""
        query = {} if after is None else {"after": after}
        with self.http.stream("GET", f"/phones/{phone}/events", params=query) as response:
            assert response.status_code == 200, response.read()
            yield (json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: "))

    def run(self, phone: str, instruction: str, each: Callable[[Event], None] = lambda _: None) -> list[Event]:
        """Start a task and read events until it ends; ``each`` sees every one as it comes."""
        seen: list[Event] = []
        with self.watch(phone) as events:
            assert self.start(phone, instruction).status_code == 202
            for event in events:
                seen.append(event)
                each(event)
                if event["type"] == "ended":
                    return seen
        raise AssertionError(f"the stream ended before the task: {seen[-3:]}")


def until(events: Iterator[Event], kind: str) -> Event:
    """The next event of a kind."""
    return next(event for event in events if event["type"] == kind)


def of(kind: str, events: list[Event]) -> list[Event]:
    return [event for event in events if event["type"] == kind]


@contextmanager
def scripted(**options: Any) -> Iterator[Console]:
    """A console with an expert in the model's place; it must end with status 0 on SIGTERM."""
    environment = dict(os.environ, PYTHONPATH=f"{ROOT / 'src'}:{ROOT}", OMP_NUM_THREADS="1")
    command = [sys.executable, "-m", "tests.server.console.scripted", json.dumps(options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as process:
        assert process.stdout is not None
        console = Console(process.stdout.readline().strip())
        try:
            yield console
        finally:
            console.close()
            process.terminate()
            status = process.wait(60)
    assert status == 0
