"""What the Open-AutoGLM client does, against a server of its own: probe, then steps of a dialogue.

Starts ``autoglm serve`` on a free port with a checkpoint (a small random one is made if none is given), sends the
client's real system prompt and screenshot through the ``openai`` SDK with the client's own parameters, streams the
answers and prints what each step cost. Random weights answer nonsense; the timings and cache hits are real.

    python examples/phone_dialogue.py [--model FOLDER] [--steps 3] [--tokens 64]
"""

from __future__ import annotations

import argparse
import base64
import io
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import openai
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from autoglm.synthetic import make_checkpoint

DATA = Path(__file__).parent / "open-autoglm"
CACHE = Path(__file__).parent.parent / ".cache" / "checkpoints"
TASK = "Open the chrome browser."


def main() -> int:
    """Run the dialogue; 0 if every step was answered."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, help="checkpoint folder (default: a random one of 8 M parameters)")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64, help="stop reading a step's answer after so many tokens")
    options = parser.parse_args()
    console = Console()
    model = options.model or small_checkpoint(console)
    console.print(f"starting: autoglm serve {model} --port 0")
    with subprocess.Popen(
        [sys.executable, "-m", "autoglm.cli", "serve", str(model), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            url = wait_until_ready(server)
            console.print(f"server ready at {url}\n")
            run_dialogue(console, url, options.steps, options.tokens)
        finally:
            server.terminate()
            server.wait(120)
    console.print(f"server stopped with status {server.returncode}")
    return server.returncode


def small_checkpoint(console: Console) -> Path:
    """The random checkpoint of earlier runs, or a new one."""
    directory = CACHE / "tiny"
    if not (directory / "model.safetensors").exists():
        console.print(f"making a random checkpoint in {directory}")
        make_checkpoint(directory, "tiny")
    return directory


def wait_until_ready(server: subprocess.Popen[str]) -> str:
    """The base URL, once the model is loaded."""
    for line in server.stdout or ():
        found = re.match(r"ready: (\S+)", line)
        if found:
            return found[1]
    raise RuntimeError("the server ended before it was ready")


def run_dialogue(console: Console, url: str, steps: int, tokens: int) -> None:
    """Probe and steps, as the client does them: the newest screen only, answers kept as text."""
    client = openai.OpenAI(base_url=url, api_key="EMPTY")
    hello = client.chat.completions.create(
        model="autoglm-phone-9b", messages=[{"role": "user", "content": "Hi"}], max_tokens=5, temperature=0
    )
    console.print(f"probe: {len(hello.choices)} choice, {hello.usage.completion_tokens if hello.usage else 0} tokens\n")
    table = Table("step", "prompt", "cached", "computed", "TTFT ms", "TPOT ms", "new tokens")
    for column in table.columns:
        column.justify = "right"
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": (DATA / "system_en.txt").read_text(encoding="utf-8")}
    ]
    for step in range(1, steps + 1):
        text = f'{TASK}\n\n{{"current_app": "Home"}}' if step == 1 else '** Screen Info **\n\n{"current_app": "Home"}'
        image = {"type": "image_url", "image_url": {"url": screenshot(step)}}
        messages.append({"role": "user", "content": [image, {"type": "text", "text": text}]})
        console.print(f"[bold]step {step}[/bold] ", end="")
        answer, row = stream_step(console, client, messages, tokens)
        table.add_row(str(step), *row)
        # The client keeps the text of a turn and drops its image.
        messages[-1]["content"] = [part for part in messages[-1]["content"] if part["type"] == "text"]
        messages.append({"role": "assistant", "content": f"<think>{answer}</think><answer></answer>"})
    console.print(table)


def stream_step(
    console: Console, client: openai.OpenAI, messages: list[dict[str, Any]], tokens: int
) -> tuple[str, list[str]]:
    """One request with the client's parameters; the connection is closed early, which cancels the rest."""
    before = engine_counters(client)
    start = time.perf_counter()
    times: list[float] = []
    answer: list[str] = []
    request: dict[str, Any] = {
        "model": "autoglm-phone-9b",
        "messages": messages,
        "max_tokens": 3000,
        "temperature": 0.0,
        "top_p": 0.85,
        "frequency_penalty": 0.2,
    }
    with client.chat.completions.create(**request, stream=True) as stream:
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                times.append(time.perf_counter())
                answer.append(chunk.choices[0].delta.content)
                console.print(answer[-1].replace("\n", " "), end="", markup=False, highlight=False)
            if len(times) >= tokens:
                break
    console.print("\n")
    after = engine_counters(client)
    prompt, cached = (after[name] - before[name] for name in ("prompt_tokens", "cached_tokens"))
    return "".join(answer), [
        f"{prompt:.0f}",
        f"{cached:.0f}",
        f"{prompt - cached:.0f}",
        f"{1e3 * (times[0] - start):.0f}",
        f"{1e3 * (times[-1] - times[0]) / max(len(times) - 1, 1):.1f}",
        str(len(times)),
    ]


def engine_counters(client: openai.OpenAI) -> dict[str, float]:
    """The engine's own counters, from the server's Prometheus page."""
    page = httpx.get(str(client.base_url.join("/metrics"))).text
    return {name: float(value) for name, value in re.findall(r'^autoglm_engine{name="(\w+)"} (\S+)$', page, re.M)}


def screenshot(step: int) -> str:
    """The real screen, with another clock each step: a new picture, as on a phone."""
    with Image.open(DATA / "screenshot.png") as image:
        ImageDraw.Draw(image).text((60, 40), f"12:{step:02d}", fill=(0, 0, 0, 255))
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


if __name__ == "__main__":
    raise SystemExit(main())
