"""Processes that die: the engine under load, an engine that never starts, the server itself."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from tests.server.harness import MODEL, LiveServer, chat_body, engine_command, error_of, http_request, wait_until

MESSAGES: Any = [{"role": "user", "content": "Hi"}]
Start = Callable[..., LiveServer]


@pytest.fixture
def start(tmp_path: Path, checkpoint: Path) -> Iterator[Start]:
    """Starts servers of this test's own."""
    servers: list[LiveServer] = []

    def begin(command: list[str] | None = None, **options: Any) -> LiveServer:
        log = tmp_path / f"{len(servers)}.log"
        servers.append(LiveServer(log, command or engine_command(checkpoint), **options))
        return servers[-1]

    yield begin
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Iterator[LiveServer]:
    """A server whose engine may be killed; whole again after each test but the last."""
    server = LiveServer(tmp_path_factory.mktemp("log") / "mortal.log", engine_command(checkpoint), grace=0.5)
    yield server
    server.close()


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_killed_engine_comes_back(mortal: LiveServer) -> None:
    server = mortal
    server.wait_ready()
    stream = server.openai.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, max_tokens=20_000, extra_body={"ignore_eos": True}
    )
    pieces = iter(stream)
    for _ in range(5):
        next(pieces)
    killed = server.engine_pid()
    os.kill(killed, signal.SIGKILL)
    with pytest.raises(openai.APIError, match="engine process died"):
        list(pieces)
    waiting = server.chat()
    assert waiting.status_code == 503
    assert int(waiting.headers["retry-after"]) >= 1
    assert error_of(waiting)["code"] == "engine_unavailable"
    assert server.http.get("/health/live").status_code == 200
    assert server.http.get("/health").status_code == 503
    assert server.metrics()["autoglm_engine_up"] == 0
    server.wait_ready()
    assert server.chat().status_code == 200
    assert server.health()["restarts"] == 1
    assert server.engine_pid() != killed
    server.wait_idle()


def test_a_killed_engine_fails_a_whole_answer_with_503(mortal: LiveServer) -> None:
    server = mortal
    server.wait_ready()
    with server.raw() as connection:
        connection.sendall(http_request(json.dumps(chat_body(max_tokens=20_000, ignore_eos=True)).encode()))
        wait_until(lambda: server.engine("running") == 1)
        engine = server.engine_pid()
        os.kill(engine, signal.SIGKILL)
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 503 ")
    server.wait_ready()
    # A signal with a request running and a client that never reads: grace, then an error, then the end.
    with server.raw(receive_buffer=4096) as connection:
        body = chat_body(max_tokens=20_000, ignore_eos=True, stream=True, n=4, logprobs=True, top_logprobs=20)
        connection.sendall(http_request(json.dumps(body).encode()))
        wait_until(lambda: server.engine("running") == 4)
        engine = server.engine_pid()
        assert server.stop() == 0
    wait_until(lambda: gone(engine), what="no engine left")


def test_a_signal_ends_a_stream_with_an_error(start: Start) -> None:
    server = start(grace=0.2)
    server.wait_ready()
    stream = server.openai.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, max_tokens=20_000, extra_body={"ignore_eos": True}
    )
    pieces = iter(stream)
    next(pieces)
    engine = server.engine_pid()
    server.process.terminate()
    with pytest.raises(openai.APIError, match="shutting down"):
        list(pieces)
    assert server.process.wait(120) == 0
    wait_until(lambda: gone(engine), what="no engine left")


@pytest.mark.parametrize("command", [None, ["/nonexistent/engine"]], ids=["no checkpoint", "no program"])
def test_an_engine_that_never_starts(start: Start, tmp_path: Path, command: list[str] | None) -> None:
    server = start(command or engine_command(tmp_path / "nothing"))
    wait_until(lambda: server.health()["restarts"] >= 1, what="a second try")
    health = server.http.get("/health")
    assert health.status_code == 503
    assert "retry-after" in health.headers
    assert health.json()["last_error"]
    assert health.json()["model"] is None
    assert server.http.get("/health/live").status_code == 200
    assert server.http.get("/v1/models").status_code == 200
    assert server.metrics()["autoglm_engine_up"] == 0
    assert server.chat().status_code == 503
    assert server.stop() == 0


def test_a_signal_while_the_engine_loads(start: Start) -> None:
    server = start()
    assert server.health()["engine"] == "starting"
    engine = server.engine_pid()
    assert server.stop() == 0
    wait_until(lambda: gone(engine), what="no engine left")


def test_requests_time_out_and_a_killed_server_takes_its_engine_along(start: Start) -> None:
    server = start(request_timeout=0.5)
    server.wait_ready()
    fields = {"max_tokens": 30_000, "ignore_eos": True}
    late = server.chat(**fields)
    assert late.status_code == 504
    assert error_of(late)["code"] == "timeout"
    with pytest.raises(openai.APIError, match="longer than"):
        list(
            server.openai.chat.completions.create(
                model=MODEL, messages=MESSAGES, stream=True, max_tokens=30_000, extra_body={"ignore_eos": True}
            )
        )
    server.wait_idle()
    engine = server.engine_pid()
    server.process.kill()
    server.process.wait()
    wait_until(lambda: gone(engine), what="no engine left")


def test_a_taken_port(start: Start) -> None:
    server = start(["/nonexistent/engine"])
    with pytest.raises(RuntimeError, match="cannot listen"):
        start(port=int(server.url.rsplit(":", 1)[1]))
