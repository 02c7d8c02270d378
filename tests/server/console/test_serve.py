"""The console inside the real server, beside the real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.server.console.live import Console, of, until
from tests.server.harness import LiveServer, engine_command, error_of, wait_until

KEY = "console-test-key"


@pytest.fixture
def locked(checkpoint: Path, tmp_path: Path) -> Iterator[LiveServer]:
    server = LiveServer(
        tmp_path / "server.log",
        engine_command(checkpoint),
        api_keys=[KEY],
        console={"max_steps": 2, "max_tokens": 200},
        grace=1.0,
    )
    try:
        server.wait_ready()
        yield server
    finally:
        server.close()


def test_key_figures_a_task_and_the_end(locked: LiveServer) -> None:
    """One server for all of it: starting an engine is what costs."""
    for path in ("/console/", "/console/static/app.js", "/console/static/base.css"):
        assert httpx.get(locked.url + path).status_code == 200
    for path in ("/console/api/phones", "/console/api/figures", "/console/static/../api/phones"):
        refused = httpx.get(httpx.URL(locked.url).copy_with(raw_path=path.encode()))
        assert refused.status_code in (401, 404)
        assert "phones" not in refused.json()
    assert error_of(httpx.get(f"{locked.url}/console/api/phones"))["code"] == "invalid_api_key"
    console = Console(locked.url, KEY)
    try:
        _works(console)
        _ends(locked, console)
    finally:
        console.close()
    assert KEY not in locked.log.read_text()
    assert "Traceback" not in locked.log.read_text()


def _works(console: Console) -> None:
    """The agent gets through to the engine with the key; random weights write no action."""
    figures = console.http.get("/figures").json()
    assert (figures["engine"], figures["name"]) == ("ready", "autoglm-phone-9b")
    events = console.run(console.phone(seed=1), "open settings")
    assert events[-1]["outcome"] in ("unparseable", "model_error")
    assert of("rejected", events)
    after = console.http.get("/figures").json()["stats"]
    assert after["prompt_tokens"] > after["cached_tokens"] > 0
    # What is computed ahead of a next request may hold blocks a little longer.
    wait_until(lambda: _all_blocks_free(console), what="every KV block free")


def _all_blocks_free(console: Console) -> bool:
    stats = console.http.get("/figures").json()["stats"]
    return bool(stats["kv_blocks_free"] == stats["kv_blocks_total"])


def _ends(locked: LiveServer, console: Console) -> None:
    """SIGTERM in the middle of a task: its viewer is told, the process ends well."""
    phone = console.phone(seed=2)
    with console.watch(phone) as events:
        assert console.start(phone, "open settings").status_code == 202
        until(events, "step")
        wait_until(lambda: locked.health()["in_flight"] > 0, what="a request in the engine")
        locked.process.terminate()
        rest = list(events)
    assert [e["type"] for e in rest if e["type"] in ("ended", "closed")] == ["ended", "closed"]
    assert of("ended", rest)[0]["outcome"] == "cancelled"
    assert locked.process.wait(60) == 0


def test_without_a_console(checkpoint: Path, tmp_path: Path) -> None:
    server = LiveServer(tmp_path / "server.log", engine_command(checkpoint), console=None)
    try:
        for path in ("/console/", "/console/api/phones"):
            assert server.http.get(path).status_code == 404
        assert "console" not in server.http.get("/").json()
        assert server.stop() == 0
    finally:
        server.close()
