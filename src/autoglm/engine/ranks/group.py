"""Rank 0's side of a replica of several ranks: start the others, check them, order them about, and notice a loss."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import msgspec
import torch
from torch._C._distributed_c10d import Store

from autoglm.engine.config import EngineConfig
from autoglm.engine.pipeline.plan import Plan
from autoglm.engine.ranks.fast import quickened
from autoglm.engine.ranks.identity import hello, mismatch
from autoglm.engine.ranks.loading import place_of
from autoglm.engine.ranks.messages import Begin, Hello, Run, Step, Stop, Welcome, encode
from autoglm.errors import RankLostError, RankMismatchError
from autoglm.parallel.channel import Kind, Leader, Line
from autoglm.parallel.launch import Children, cores, listen, loopback_only, open_store, own_store
from autoglm.parallel.mesh import Mesh, Place, join_mesh
from autoglm.parallel.world import World, interface_of

log = logging.getLogger(__name__)
_START_SECONDS = 180.0
_POLL_SECONDS = 0.2
_END_SECONDS = 5.0
_LOST_STATUS = 70
_GRACE_SECONDS = 1.0


class RankGroup:
    """All ranks of this replica, seen from rank 0.

    Args:
        lines: to every other rank. children: those that are processes of this one.
        folder: where they meet; removed at the end.

    Attributes:
        mesh: rank 0's communicators. parameters: of the whole model.
        plan: the pipeline's, once it is assigned; ``None``: one stage.
        end_process: after a loss, end this process (status 70) unless it ends by itself within a second: it may be
            idle, or hang in a sum with a rank of another host. For a process that is started again by others.
    """

    def __init__(
        self,
        config: EngineConfig,
        place: Place,
        lines: dict[int, Line],
        children: Children,
        folder: Path | None = None,
    ) -> None:
        self.config = config
        self.place = place
        self.mesh = Mesh(place)
        self.parameters = 0
        self.plan: Plan | None = None
        self._children = children
        self._folder = folder
        self.end_process = False
        self._begun = False
        self._closed = threading.Event()
        self._leader = Leader(lines, config.rank_timeout, self._on_loss)

    @property
    def lost(self) -> str | None:
        """What was lost, once something was."""
        return self._leader.lost

    def order(self, step: Step) -> None:
        """Have every other rank execute a step; returns at once. Raises :class:`RankLostError`."""
        self._leader.broadcast(encode(Run(step)))

    def assign(self, plan: Plan) -> None:
        """Tell every rank of a pipeline who holds which layers; the first message they wait for."""
        self.plan = plan
        self._leader.broadcast(encode(plan.partition))

    def send(self, rank: int, payload: bytes) -> None:
        """Bytes to one rank. Raises :class:`RankLostError`."""
        self._leader.send(rank, payload)

    def receive(self, rank: int) -> bytes:
        """The next message of a rank; waits for it. Raises :class:`RankLostError`."""
        return self._leader.receive(rank)

    def ready(self, rank: int) -> bool:
        """Whether :meth:`receive` would not wait."""
        return self._leader.ready(rank)

    def begin(self, num_blocks: int) -> None:
        """Wait until every rank has its weights, then have all make their KV memory."""
        for rank in range(1, self.place.world_size):
            self._leader.receive(rank)
        self._leader.broadcast(encode(Begin(num_blocks=num_blocks)))
        self._begun = True

    def explain(self, error: Exception) -> Exception:
        """What to raise for an error of a collective: the loss that caused it, if there was one."""
        deadline = time.monotonic() + self.config.rank_timeout
        while self.lost is None and time.monotonic() < deadline:
            time.sleep(0.01)  # a peer's death shows in the collective before it shows in the channel
        return error if self.lost is None else RankLostError(self.lost, field="rank")

    def close(self) -> None:
        """Have every rank end, and wait for it. Before :meth:`begin`, and after a loss, they are not asked."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._begun and self.lost is None:
            with contextlib.suppress(RankLostError):
                self._leader.broadcast(encode(Stop()))
            self._leader.end()
        else:
            self._children.kill()
        self._children.wait(_END_SECONDS)
        self._leader.close()
        self.mesh.close()
        self._tidy()

    def _on_loss(self, reason: str) -> None:
        """On the channel's thread: end the others, so that whatever waits for them in this process fails."""
        if self._closed.is_set():
            return
        log.error("the replica ends: %s", reason)
        self._children.kill()
        self._tidy()
        if self.end_process:
            last = threading.Timer(_GRACE_SECONDS, self._exit)
            last.daemon = True
            last.start()

    def _tidy(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _exit(self) -> None:
        if not self._closed.is_set():
            os._exit(_LOST_STATUS)


def start_ranks(path: Path, config: EngineConfig, device: torch.device) -> RankGroup:
    """Meet the other ranks: those that torchrun (or its like) has started, else start them on this host.

    Raises:
        RankMismatchError: a rank is not made as this one. RankLostError: one did not come, or ended.
    """
    place = place_of(config, 0)
    world = World.of()
    children = Children()
    try:
        if world is None:
            group, store = _start_here(path, config, place, children)
        else:
            world.check(place.world_size)
            group, store = _meet(path, config, place, world)
    except BaseException:
        children.kill()
        children.wait(_END_SECONDS)
        raise
    try:
        limit = collective_timeout(config)
        group.mesh = quickened(join_mesh(store, place, device, limit), device, config, limit)
    except RuntimeError as error:
        found = group.explain(error)
        group.close()
        raise found from error
    return group


def _start_here(path: Path, config: EngineConfig, place: Place, children: Children) -> tuple[RankGroup, Store]:
    folder = Path(tempfile.mkdtemp(prefix="autoglm-ranks-"))  # mode 0700: nobody else can connect
    try:
        channel, store = f"unix:{folder / 'channel'}", f"file:{folder / 'store'}"
        with listen(channel) as listener:
            for rank in range(1, place.world_size):
                command = worker_command(path, config, rank, place.world_size, channel)
                children.start(rank, command, {**loopback_only(), "OMP_NUM_THREADS": str(rank_threads(config))})
            lines = accept_ranks(listener, hello(path, config, place), store, children)
        os.environ.update(loopback_only())
        opened = open_store(store, place.world_size, _START_SECONDS)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return RankGroup(config, place, lines, children, folder), opened


def _meet(path: Path, config: EngineConfig, place: Place, world: World) -> tuple[RankGroup, Store]:
    with listen(world.listen_address()) as listener:
        world.publish(listener)
        store, address = own_store(world.host, place.world_size, _START_SECONDS)
        children = Children()
        lines = accept_ranks(listener, hello(path, config, place), address, children)
    use_interface_of(next(iter(lines.values())).connection)
    return RankGroup(config, place, lines, children), store


def use_interface_of(connection: socket.socket) -> None:
    """Have gloo use the interface that leads to the other hosts, unless the user has chosen one."""
    name = interface_of(connection)
    if name is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def worker_command(path: Path, config: EngineConfig, rank: int, world_size: int, channel: str) -> list[str]:
    """argv of another rank on this host."""
    return [
        *(sys.executable, "-m", "autoglm.engine.ranks.worker", "--child", "--channel", channel),
        *("--rank", str(rank), "--world-size", str(world_size)),
        *("--model", str(path), "--config", msgspec.json.encode(config).decode()),
    ]


def accept_ranks(listener: socket.socket, own: Hello, store: str, children: Children) -> dict[int, Line]:
    """Wait for every other rank, and take it if it is made as this one; see :func:`start_ranks` for errors."""
    lines: dict[int, Line] = {}
    deadline = time.monotonic() + _START_SECONDS
    listener.settimeout(_POLL_SECONDS)
    while len(lines) < own.world_size - 1:
        children.check()
        if time.monotonic() > deadline:
            missing = sorted(set(range(1, own.world_size)) - set(lines))
            raise RankLostError(f"ranks {missing} did not come in {_START_SECONDS:g} s", field="rank", value=missing[0])
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        connection.settimeout(_END_SECONDS)
        line = Line(connection)
        theirs = _hello_on(line)
        if theirs is None:
            line.close()
            continue
        refusal = mismatch(own, theirs)
        if refusal is None and theirs.rank in lines:
            refusal = RankMismatchError(f"rank {theirs.rank} has come already", field="rank", value=theirs.rank)
        line.send(Kind.DATA, encode(Welcome(refusal=str(refusal or ""), store=store)))
        if refusal is not None:
            line.close()
            raise refusal
        lines[theirs.rank] = line
    return lines


def _hello_on(line: Line) -> Hello | None:
    """What a caller says first; ``None``: it is no rank."""
    try:
        frame = line.receive()
        return None if frame is None else msgspec.msgpack.decode(frame[1], type=Hello)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        log.warning("a caller that is no rank was turned away: %s", error)
        return None


def rank_threads(config: EngineConfig) -> int:
    """Compute threads of one rank: its share of the option, or of the CPUs."""
    return max(1, (config.threads or cores()) // place_of(config, 0).world_size)


def collective_timeout(config: EngineConfig) -> float:
    """Seconds; the channel notices a loss long before, this is for a rank that lives and does not come."""
    return max(60.0, 6 * config.rank_timeout)
