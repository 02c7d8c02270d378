"""Ranks as processes of their own: a function each, its result or its error back."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from autoglm.parallel.collectives import Communicator, TorchCommunicator

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch", "torch.distributed"])
LIMIT = 180.0


class Rank:
    """A rank under way."""

    def __init__(self, process: Any, pipe: Connection) -> None:
        self.process = process
        self.pipe = pipe

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def result(self) -> Any:
        """What the rank's function returned or last sent; raises what it raised."""
        assert self.pipe.poll(LIMIT), "a rank gave no result"
        kind, value = self.pipe.recv()
        if kind == "error":
            raise AssertionError(value)
        return value


@contextmanager
def ranks(function: Callable[..., Any], size: int, *arguments: Any) -> Iterator[list[Rank]]:
    """``function(communicator, say, *arguments)`` on ``size`` ranks of a gloo group; ``say`` sends a word ahead."""
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for rank in range(size):
            ours, theirs = _CONTEXT.Pipe()
            place = Path(folder) / "rendezvous"
            process = _CONTEXT.Process(target=_main, args=(theirs, place, rank, size, function, arguments), daemon=True)
            process.start()
            theirs.close()
            found.append(Rank(process, ours))
        try:
            yield found
        finally:
            for rank in found:
                rank.process.kill()
                rank.process.join()
                rank.pipe.close()


def on_ranks(function: Callable[..., Any], size: int, *arguments: Any) -> list[Any]:
    """Results of ``function(communicator, *arguments)`` in order of rank."""
    with ranks(_quiet, size, function, *arguments) as running:
        return [rank.result() for rank in running]


def _quiet(communicator: Communicator, say: Callable[[Any], None], function: Callable[..., Any], *rest: Any) -> Any:
    return function(communicator, *rest)


def _main(
    pipe: Connection, place: Path, rank: int, size: int, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    try:
        dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=size)
        communicator = TorchCommunicator(dist.group.WORLD)
        value = function(communicator, lambda word: pipe.send(("word", word)), *arguments)
        pipe.send(("result", value))
        pipe.recv_bytes()  # stay until the test has seen every rank: a process that ends takes its sockets along
    except EOFError:
        return
    except BaseException:
        pipe.send(("error", traceback.format_exc()))
