"""Starting, watching and asking a real server."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import psutil

from autoglm.prompt.synthetic_images import encode, screenshot

ROOT = Path(__file__).resolve().parents[2]
MODEL = "autoglm-phone-9b"
ENGINE_CONFIG = {"threads": 1, "kv_cache_bytes": 50_000_000, "check_integrity": True}


def engine_command(checkpoint: Path, **config: Any) -> list[str]:
    """argv of an engine process."""
    options = json.dumps(ENGINE_CONFIG | config)
    return [sys.executable, "-m", "autoglm.engine.process", "--model", str(checkpoint), "--config", options]


def wait_until(condition: Callable[[], bool], seconds: float = 180.0, what: str = "condition") -> None:
    """Poll; the limit only ends a test that hangs."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come true in {seconds:g} s")
        time.sleep(0.02)


class LiveServer:
    """A server process, its engine, and clients for both sides of the truth: HTTP and the process table."""

    def __init__(self, log: Path, command: list[str], **options: Any) -> None:
        script = str(ROOT / "tests/server/child.py")
        environment = dict(os.environ, PYTHONPATH=str(ROOT / "src"), OMP_NUM_THREADS="1")
        self.log = log
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, script, json.dumps({"port": 0} | options), json.dumps(command)],
                stdout=subprocess.PIPE,
                stderr=sink,
                env=environment,
            )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().decode().strip()
        if not self.url:
            self.process.stdout.close()
            self.process.wait()
            raise RuntimeError(log.read_text())
        key = (options.get("api_keys") or ["EMPTY"])[0]
        self.http = httpx.Client(base_url=self.url, timeout=180, headers={"Authorization": f"Bearer {key}"})
        self.openai = openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=180)

    def health(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get("/health").json()
        return found

    def wait_ready(self) -> None:
        wait_until(lambda: self.http.get("/health").status_code == 200, what="a ready engine")

    def chat(self, **fields: Any) -> httpx.Response:
        return self.http.post("/v1/chat/completions", json=chat_body(**fields))

    def raw(self, receive_buffer: int | None = None) -> socket.socket:
        """A plain connection."""
        parts = urlsplit(self.url)
        connection = socket.socket()
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(180)
        connection.connect((parts.hostname, parts.port))
        return connection

    def metrics(self) -> dict[str, float]:
        """``name{labels}`` to value."""
        lines = self.http.get("/metrics").text.splitlines()
        return {k: float(v) for k, v in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}

    def engine(self, name: str) -> float:
        """One of the engine's own figures."""
        return self.metrics()[f'autoglm_engine{{name="{name}"}}']

    def idle(self) -> bool:
        """Nothing runs, waits or holds a block."""
        found = self.metrics()
        engine = {name: found[f'autoglm_engine{{name="{name}"}}'] for name in ("running", "waiting")}
        free, total = (found[f'autoglm_engine{{name="kv_blocks_{name}"}}'] for name in ("free", "total"))
        busy = [*engine.values(), found["autoglm_requests_in_flight"], self.health()["in_flight"]]
        return not any(busy) and free == total

    def wait_idle(self) -> None:
        wait_until(self.idle, what="an idle server with every block free")

    def engine_pid(self) -> int:
        (child,) = psutil.Process(self.process.pid).children()
        return child.pid

    def stop(self, seconds: float = 120.0) -> int:
        """SIGTERM; the exit status."""
        self.process.terminate()
        status = self.process.wait(seconds)
        self.close()
        return status

    def close(self) -> None:
        """Let go of everything, however the process stands."""
        self.openai.close()
        self.http.close()
        if self.process.poll() is None:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                child.kill()
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def chat_body(**fields: Any) -> dict[str, Any]:
    """A small request; ``fields`` on top."""
    small = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "temperature": 0}
    return small | fields


def http_request(body: bytes, headers: str = "", path: str = "/v1/chat/completions") -> bytes:
    """A POST as bytes on the wire."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}"
    if "content-length" not in headers.lower() and "transfer-encoding" not in headers.lower():
        head += f"Content-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


def png(height: int = 140, width: int = 84, channels: int = 3, seed: int = 0) -> bytes:
    return encode(screenshot(height, width, channels, seed))


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def image_message(url: str, text: str = "what?") -> list[dict[str, Any]]:
    """One user message: image, then text."""
    return [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]}
    ]


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error object, checked for shape."""
    assert response.headers["content-type"].startswith("application/json"), response.text
    error: dict[str, Any] = response.json()["error"]
    assert {"message", "type", "param", "code"} <= set(error), error
    return error
