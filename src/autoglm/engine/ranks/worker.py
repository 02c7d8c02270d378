"""Any rank but 0: ``python -m autoglm.engine.ranks.worker --channel ADDRESS --rank R --world-size N --model PATH``.

It loads its part of the weights and executes the steps that rank 0 orders, until rank 0 says stop (status 0) or is
gone (70). A rank that rank 0 refuses ends with 78 and says why.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch

from autoglm.engine.config import EngineConfig
from autoglm.engine.decode import native_decoder, prefill_on_kernels
from autoglm.engine.pipeline.worker import StageWorker
from autoglm.engine.ranks.executor import StepExecutor
from autoglm.engine.ranks.fast import quickened
from autoglm.engine.ranks.group import collective_timeout, rank_threads, use_interface_of
from autoglm.engine.ranks.identity import hello
from autoglm.engine.ranks.loading import check_shares, device_of, load_part, place_of
from autoglm.engine.ranks.messages import LOST, REFUSED, Begin, Hello, Stop, Welcome, decode_order, encode
from autoglm.engine.ranks.native import NativeSteps
from autoglm.errors import AutoGLMError, RankLostError, RankMismatchError
from autoglm.model.context import ImageFeatures, KVStore
from autoglm.parallel.channel import Follower, Kind, Line
from autoglm.parallel.launch import connect, die_with_parent, open_store
from autoglm.parallel.mesh import Place, join_mesh
from autoglm.parallel.pipeline.partition import Partition
from autoglm.parallel.world import World

log = logging.getLogger(__name__)
_START_SECONDS = 180.0


def work(path: Path, config: EngineConfig, place: Place, find: Callable[[], str], *, child: bool) -> None:
    """One life of a rank; ``find`` tells where rank 0 listens.

    Raises:
        RankMismatchError: rank 0 refuses it. RankLostError: rank 0 is not there. Further as loading does.
    """
    check_shares(path, config)
    torch.set_num_threads(rank_threads(config))
    line = Line(connect(find, _START_SECONDS))
    try:
        welcome = _greet(line, hello(path, config, place))
    except BaseException:
        line.close()
        raise
    if not child:
        use_interface_of(line.connection)
    parent = os.getppid() if child else None
    follower = Follower(line, config.rank_timeout, lambda reason: _end(reason, parent))
    try:
        _execute(path, config, place, welcome.store, follower)
    except Exception as error:
        follower.fail(f"{type(error).__name__}: {error}")
        raise
    finally:
        follower.close()


def _greet(line: Line, own: Hello) -> Welcome:
    line.send(Kind.DATA, encode(own))
    frame = line.receive()
    if frame is None:
        raise RankLostError("rank 0 hung up", field="rank", value=0)
    welcome = msgspec.msgpack.decode(frame[1], type=Welcome)
    if welcome.refusal:
        raise RankMismatchError(f"rank 0 refuses this rank: {welcome.refusal}", field="rank", value=own.rank)
    return welcome


def _execute(path: Path, config: EngineConfig, place: Place, store: str, follower: Follower) -> None:
    device = device_of(config, place)
    limit = collective_timeout(config)
    found = join_mesh(open_store(store, place.world_size, _START_SECONDS), place, device, limit)
    mesh = quickened(found, device, config, limit)
    partition = None
    if place.pipeline_size > 1:
        partition = msgspec.msgpack.decode(follower.receive(), type=Partition)
    model = load_part(path, config, device, mesh, stage=None if partition is None else partition.stage(place.stage))
    follower.send(b"")
    begin = msgspec.msgpack.decode(follower.receive(), type=Begin)
    kv = KVStore(model.kv_spec, begin.num_blocks * config.block_size, device)
    features: dict[int, ImageFeatures] = {}
    decoder = native_decoder(model, kv, config, begin.num_blocks, mesh.pipeline)
    native = None
    if decoder is not None:
        native = NativeSteps(decoder, features)
        prefill_on_kernels(model, kv, config, begin.num_blocks)
    executor = StepExecutor(model, kv, config.block_size, features, native)
    if partition is None:
        _follow(executor, follower)
    else:
        StageWorker(executor, partition.vision, mesh).follow(follower)
    mesh.close()


def _follow(executor: StepExecutor, follower: Follower) -> None:
    while not isinstance(order := decode_order(follower.receive()), Stop):
        executor.follow(order.step)


def _end(reason: str | None, parent: int | None) -> None:
    """On the channel's thread: rank 0 is gone or silent, and this rank may hang in a collective with it."""
    if reason is not None:
        log.error("this rank ends: %s", reason)
        if parent is not None and os.getppid() == parent:
            # A stopped engine process would keep its requests for ever; dead, it is started again.
            os.kill(parent, signal.SIGKILL)
    os._exit(LOST)


def main(argv: list[str] | None = None) -> int:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(prog="autoglm.engine.ranks.worker")
    parser.add_argument("--channel", help="unix:PATH or tcp:HOST:PORT of rank 0; default: see torchrun")
    parser.add_argument("--rank", type=int, help="default: RANK")
    parser.add_argument("--world-size", type=int, help="default: WORLD_SIZE")
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--config", default="{}", help="EngineConfig as JSON")
    parser.add_argument("--child", action="store_true", help="rank 0 is the parent: end with it, leave signals to it")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    if options.child:
        die_with_parent()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
    config = msgspec.json.decode(options.config, type=EngineConfig)
    gc.freeze()  # as in rank 0's process: no collection walks all that was imported in the middle of a step
    try:
        rank, find, world_size = _world(options)
        World(rank, world_size, "", 0, agent_store=False).check(place_of(config, 0).world_size)
        work(options.model, config, place_of(config, rank), find, child=options.child)
    except RankMismatchError as error:
        log.error("%s", error)
        return REFUSED
    except AutoGLMError as error:
        log.error("%s", error)
        return LOST
    return 0


def _world(options: argparse.Namespace) -> tuple[int, Callable[[], str], int]:
    """Rank, where rank 0 listens, and number of ranks: from the options, else from the environment."""
    if options.channel is not None:
        return options.rank, lambda: str(options.channel), options.world_size
    world = World.of()
    if world is None:
        raise RankMismatchError("neither --channel nor RANK and WORLD_SIZE say where rank 0 is", field="channel")
    return world.rank, world.channel, world.size


if __name__ == "__main__":
    raise SystemExit(main())
