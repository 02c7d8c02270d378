"""The whole system at its job: a server with the embedded model, a simulated phone, three tasks, a console to watch.

    python examples/demo.py [--headless] [--model NAME_OR_FOLDER] [--language en|zh] [--seed N] [--port N]

Prints each step as it happens, then success, latency and cache hits. It stays up until Ctrl-C, so that the console can
be used; with ``--headless`` it ends, with status 0 if all tasks were done.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape
from rich.table import Table

LOG = Path(__file__).parent.parent / ".cache" / "demo" / "server.log"
TASKS = 3
ANSWER_TOKENS = 256
PAUSE = 0.7
"""Seconds between a decision and its action, so that a person can follow; not part of any latency."""


@dataclass
class Report:
    """What the tasks came to. Latencies: milliseconds from the screen's capture to the complete action."""

    rows: list[tuple[str, str, int]] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    done: int = 0


def main() -> int:
    """Run the demo; 0 if every task was done and the server ended well."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--headless", action="store_true", help="end after the tasks; status 0: all were done")
    parser.add_argument("--model", help="another model than the embedded one")
    parser.add_argument("--language", choices=("en", "zh"), default="en")
    parser.add_argument("--theme", choices=("light", "dark"), default="light")
    parser.add_argument("--seed", type=int, default=20_261_104, help="of the phone: layout, contents, tasks")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    console = Console(highlight=False)
    # Ctrl-C and SIGTERM end the waiting below; the server is then stopped as well.
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with server(console, options) as (process, url):
        if url is None:
            return 1
        report = show(console, url, options, stop)
        if not options.headless and not stop.is_set():
            console.print(f"\nThe console stays open at [bold]{url}/console/[/bold] - Ctrl-C ends it.")
            while not stop.wait(0.5) and process.poll() is None:
                pass
    console.print(f"server stopped with status {process.returncode}")
    return 0 if report.done == TASKS and process.returncode == 0 else 1


@contextmanager
def server(console: Console, options: argparse.Namespace) -> Iterator[tuple[subprocess.Popen[str], str | None]]:
    """``autoglm serve`` and its URL once the model is loaded; None if it ended instead. Its log is in ``LOG``."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "autoglm.cli", "serve", *([options.model] if options.model else [])]
    command += ["--port", str(options.port), "--agent-max-tokens", str(ANSWER_TOKENS)]
    console.print(f"starting: autoglm {' '.join(command[3:])}")
    environment = {name: value for name, value in os.environ.items() if name != "AUTOGLM_API_KEYS"}
    with LOG.open("w", encoding="utf-8") as log:
        # A session of its own: Ctrl-C in the terminal is for the demo, which stops the server in order.
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, start_new_session=True
        )
    try:
        url = next((found[1] for line in process.stdout or () if (found := re.match(r"ready: (\S+)/v1", line))), None)
        if url is None:
            console.print(f"the server did not start:\n{LOG.read_text(encoding='utf-8').strip()}", markup=False)
        yield process, url
    finally:
        process.terminate()
        process.wait(30)


def show(console: Console, url: str, options: argparse.Namespace, stop: threading.Event) -> Report:
    """Make a phone, do the tasks, print the figures."""
    report = Report()
    with httpx.Client(base_url=f"{url}/console/api", timeout=600) as http:
        wanted = {"seed": options.seed, "language": options.language, "theme": options.theme}
        phone = http.post("/phones", json=wanted).raise_for_status().json()
        console.print(f"watch it at [bold]{url}/console/#{phone['id']}[/bold]\n")
        for _ in range(TASKS):
            if stop.is_set():
                break
            done = {row[0] for row in report.rows}
            suggested = http.get(f"/phones/{phone['id']}/suggestions").raise_for_status().json()["suggestions"]
            instruction = next(text for text in suggested[len(done) :] if text not in done)
            run(console, http, phone["id"], instruction, report, stop, 0.0 if options.headless else PAUSE)
        summary(console, http.get("/figures").raise_for_status().json()["stats"], report)
    return report


def run(
    console: Console,
    http: httpx.Client,
    phone: str,
    instruction: str,
    report: Report,
    stop: threading.Event,
    pause: float,
) -> None:
    """One task, printed as it goes."""
    console.print(instruction, style="bold", markup=False)
    think, written = "", ""
    body = {"instruction": instruction, "pause": pause}
    task = http.post(f"/phones/{phone}/task", json=body).raise_for_status().json()["task"]["task"]
    with http.stream("GET", f"/phones/{phone}/events") as response:
        for event in events(response):
            if stop.is_set():
                return
            if event.get("task") != task:
                continue
            if event["type"] == "decided":
                think, written = event["think"], event["written"]
            elif event["type"] == "asked":
                question = event["question"]["question"]
                http.post(f"/phones/{phone}/answer", json={"question": question, "allow": True}).raise_for_status()
                console.print(f"    confirmed: {event['question']['message']}", markup=False)
            elif event["type"] == "timed":
                step(console, event, think, written, report)
            elif event["type"] == "ended":
                ending(console, event, instruction, report)
                return


def step(console: Console, event: dict[str, Any], think: str, written: str, report: Report) -> None:
    """One line for one step."""
    fall, usage = event["ms"], event["usage"]
    report.latencies.append(fall["to_action"])
    report.prompt_tokens += usage["prompt_tokens"] or 0
    report.cached_tokens += usage["cached_tokens"] or 0
    parts = ", ".join(f"{name} {fall[name]:.0f}" for name in ("capture", "encode", "prefill", "decode", "act"))
    console.print(f"  {event['step']:2d}  {written[:70]}", markup=False)
    console.print(f"      [dim]{fall['to_action']:.0f} ms ({parts})[/dim]  ", end="")
    console.print(think[:80], markup=False)


def ending(console: Console, event: dict[str, Any], instruction: str, report: Report) -> None:
    """How a task ended, by the phone's own state."""
    done = event["reached"] is True
    report.done += done
    report.rows.append((instruction, "done" if done else f"not done: {event['outcome']}", event["steps"]))
    if done:
        console.print("  done, checked on the phone\n", style="green")
    else:
        console.print(f"  not done: {event['message']}\n", style="red", markup=False)


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The server-sent events of an answer."""
    for line in response.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line[6:])


def summary(console: Console, stats: dict[str, Any] | None, report: Report) -> None:
    """The tables at the end."""
    table = Table("task", "result", "steps")
    for instruction, result, steps in report.rows:
        table.add_row(escape(instruction), result, str(steps))
    console.print(table)
    if report.latencies:
        ordered = sorted(report.latencies)
        middle, high = ordered[len(ordered) // 2], ordered[int(0.95 * (len(ordered) - 1))]
        console.print(f"screen to action: median {middle:.0f} ms, 95th percentile {high:.0f} ms, {len(ordered)} steps")
    console.print(f"prompt tokens from the prefix cache: {report.cached_tokens} of {report.prompt_tokens}")
    for cache in (stats or {}).get("caches", []):
        console.print(
            f"cache {cache['name']}: {cache['hits']} hits, {cache['misses']} misses, {cache['bytes']:,} bytes"
        )
    if stats is not None:
        console.print(f"engine process: {stats['resident_bytes'] / 1e6:.0f} MB")


if __name__ == "__main__":
    raise SystemExit(main())
