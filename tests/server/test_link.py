"""States of the link to the engine, with real child processes."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import threading

import pytest

from autoglm.errors import EngineUnavailableError
from autoglm.messages import ChatMessage, SamplingParams, Submit
from autoglm.server import EngineLink, LinkState
from autoglm.server.link import _end

SUBMIT = Submit(id="one", messages=[ChatMessage("user", "Hi")], sampling=SamplingParams())
LEGAL = {
    ("new", "starting"),
    ("starting", "ready"),
    ("starting", "backoff"),
    ("ready", "backoff"),
    ("backoff", "starting"),
    *((state, "stopped") for state in ("new", "starting", "ready", "backoff")),
}


@pytest.mark.parametrize(("now", "then"), [*itertools.product(LinkState, LinkState)])
def test_transitions(now: LinkState, then: LinkState) -> None:
    link = EngineLink(["true"], 1)
    link.state = now
    if (now.value, then.value) in LEGAL:
        link._move(then)
        assert link.state is then
    else:
        with pytest.raises(RuntimeError, match=f"from {now.value} to {then.value}"):
            link._move(then)
        assert link.state is now


def test_nothing_is_taken_before_the_engine_is_ready() -> None:
    with pytest.raises(EngineUnavailableError, match="new"):
        EngineLink(["true"], 1).submit(SUBMIT)


async def test_a_program_that_is_not_there_is_tried_again() -> None:
    link = EngineLink(["/nonexistent/program"], 1)
    link.start()
    while link.restarts < 1:
        await asyncio.sleep(0.01)
    assert "No such file" in str(link.last_error)
    await link.close()
    assert link.state is LinkState.STOPPED
    assert link.pid is None


@pytest.mark.parametrize(
    "script",
    ["import sys; sys.exit(3)", "import os, sys; os.write(int(sys.argv[-1]), b'\\xff' * 64)"],
    ids=["exits", "talks nonsense"],
)
async def test_an_engine_that_fails_is_started_again(script: str) -> None:
    link = EngineLink([sys.executable, "-c", script], 1)
    link.start()
    while link.restarts < 1:
        await asyncio.sleep(0.01)
    assert link.last_error is not None
    await link.close()


async def test_an_engine_that_ignores_signals_is_killed() -> None:
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    link = EngineLink([sys.executable, "-c", script], 1)
    link.start()
    while link.pid is None:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    await link.close(timeout=0.2)
    assert link.pid is None


async def test_closing_at_once() -> None:
    link = EngineLink([sys.executable, "-c", "import time; time.sleep(600)"], 1)
    link.start()
    await link.close()
    assert link.pid is None


async def test_the_status_of_an_engine_that_ends_as_it_is_told_to_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    reap, waitpid = threading.Event(), os.waitpid

    def late(pid: int, options: int) -> tuple[int, int]:
        reap.wait()
        return waitpid(pid, options)

    monkeypatch.setattr(os, "waitpid", late)  # asyncio's thread, for this moment, has not come round to it
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(3)")
    try:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        ending = asyncio.create_task(_end(process, 60.0))
        await asyncio.sleep(0)
    finally:
        reap.set()
    assert await ending == 3
