"""Ranks that die, hang, or are told to end: real processes under the server's own supervision."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import psutil
import pytest

from autoglm.engine import EngineConfig
from autoglm.errors import AutoGLMError, EngineUnavailableError
from autoglm.messages import ChatMessage, Output, SamplingParams, Submit
from autoglm.server import EngineLink, LinkState
from autoglm.server.stream import RequestStream

TIMEOUT = 5.0
CONFIG = EngineConfig(threads=2, kv_cache_bytes=8 * 2**20, tensor_parallel_size=2, rank_timeout=TIMEOUT)
DOWN = {LinkState.BACKOFF, LinkState.STARTING}
"""After a loss: the first lasts a tenth of a second only, which a busy machine may sleep through."""


@asynccontextmanager
async def running(checkpoint: Path) -> AsyncIterator[EngineLink]:
    command = [sys.executable, "-m", "autoglm.engine.process", "--model", str(checkpoint)]
    link = EngineLink([*command, "--config", msgspec.json.encode(CONFIG).decode()], 8)
    link.start()
    try:
        yield link
    finally:
        await link.close()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.02)


def ranks_of(link: EngineLink) -> list[psutil.Process]:
    """Rank 0 and rank 1."""
    assert link.pid is not None
    engine = psutil.Process(link.pid)
    children: list[psutil.Process] = engine.children()
    assert len(children) == 1
    return [engine, *children]


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def busy(link: EngineLink, request_id: str) -> RequestStream:
    """A request that is being answered and would be for long."""
    await link.ready()
    sampling = SamplingParams(temperature=0.0, max_tokens=20_000, ignore_eos=True)
    stream = link.submit(Submit(id=request_id, messages=[ChatMessage("user", "Hi")], sampling=sampling))
    while not isinstance(await stream.next(), Output):
        pass
    return stream


async def failure_of(stream: RequestStream) -> AutoGLMError:
    try:
        while True:
            assert isinstance(await stream.next(), Output)
    except EngineUnavailableError as error:
        return error


async def test_a_killed_rank_and_a_stopped_one_fail_requests_as_retryable_and_the_replica_restarts(
    checkpoint: Path,
) -> None:
    async with running(checkpoint) as link:
        for restarts, number in enumerate((signal.SIGKILL, signal.SIGSTOP)):
            stream = await busy(link, str(number))
            before = ranks_of(link)
            assert link.restarts == restarts
            os.kill(before[1].pid, number)
            assert (await failure_of(stream)).retryable
            await until(lambda: link.state in DOWN)
            assert link.last_error == "exit status 70"
            await until(lambda before=before: all(gone(process) for process in before))


@pytest.mark.slow
async def test_an_idle_replica_restarts_too(checkpoint: Path) -> None:
    async with running(checkpoint) as link:
        await link.ready()
        before = ranks_of(link)
        os.kill(before[1].pid, signal.SIGKILL)
        await until(lambda: link.state in DOWN)
        assert link.last_error == "exit status 70"
        await until(lambda: all(gone(process) for process in before))


@pytest.mark.slow
async def test_a_stopped_rank_0_is_ended_by_the_others(checkpoint: Path) -> None:
    async with running(checkpoint) as link:
        stream = await busy(link, "one")
        before = ranks_of(link)
        os.kill(before[0].pid, signal.SIGSTOP)
        assert (await failure_of(stream)).retryable
        await until(lambda: all(gone(process) for process in before))


async def test_sigterm_ends_all_ranks_with_status_0(checkpoint: Path) -> None:
    async with running(checkpoint) as link:
        await busy(link, "one")
        engine, other = ranks_of(link)
        os.kill(other.pid, signal.SIGTERM)  # a whole process group may get it; a rank leaves that to rank 0
        await busy(link, "two")
        assert not gone(other)
        engine.terminate()
        await until(lambda: link.state in DOWN)
        assert link.last_error == "exit status 0"
        assert gone(other)
