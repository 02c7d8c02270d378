"""Replicas of several ranks, placed by Ray on the hosts of a cluster.

Ray decides where ranks run, starts them, and says when one is lost; requests and activations never pass through it.
Each rank is ``autoglm serve`` with the environment that torchrun would set: rank 0 serves HTTP, the others follow it. A
replica is whole or nothing: when a rank ends, the rest are stopped and all start again where there is room.

Needs ``pip install autoglm[ray]``.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autoglm.errors import EngineUnavailableError, InvalidInputError, RankLostError

_GRACE_SECONDS = 10.0
_PLACE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ReplicaPlan:
    """What a replica is made of.

    Attributes:
        command: of every rank, such as ``autoglm serve MODEL --tensor-parallel-size 2``. ``{host}`` in a word becomes
            the address of the rank's host.
        ranks: tensor-parallel size times pipeline stages.
        cpus, gpus: of a rank, as Ray counts them.
        spread: ranks on different hosts; else as few hosts as possible.
        variables: environment of the ranks, besides RANK and its like.
    """

    command: tuple[str, ...]
    ranks: int
    cpus: float = 1.0
    gpus: float = 0.0
    spread: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.ranks < 1:
            raise InvalidInputError("a replica has at least one rank", field="ranks", limit=1, value=self.ranks)
        if not self.command:
            raise InvalidInputError("the ranks' command is empty", field="command")


class RankHost:
    """One rank's process, on the host where Ray put this actor."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def address(self) -> tuple[str, int]:
        """This host's address in the cluster, and a port that is free now."""
        host = _ray().util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((host, 0))
            return host, int(probe.getsockname()[1])

    def start(self, command: Sequence[str], variables: Mapping[str, str]) -> int:
        """Start the rank; its process id. Its output goes to this actor's log."""
        host = _ray().util.get_node_ip_address()
        words = [word.replace("{host}", host) for word in command]
        self._process = subprocess.Popen(words, env=os.environ | dict(variables), start_new_session=True)
        return self._process.pid

    def status(self) -> int | None:
        """The rank's exit status; ``None``: it runs."""
        return None if self._process is None else self._process.poll()

    def stop(self, grace: float) -> None:
        """SIGTERM, and SIGKILL after ``grace`` seconds; its children too."""
        if self._process is None or self._process.poll() is not None:
            return
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class RayReplica:
    """A placed replica. Made by :func:`start_replicas`; one caller at a time."""

    def __init__(self, plan: ReplicaPlan) -> None:
        self.plan = plan
        self.host = ""
        self.restarts = 0
        self._group: Any = None
        self._actors: list[Any] = []

    def start(self) -> None:
        """Place the ranks and start them. Raises :class:`EngineUnavailableError` if the cluster has no room."""
        ray = _ray()
        bundle = {"CPU": self.plan.cpus} | ({"GPU": self.plan.gpus} if self.plan.gpus else {})
        strategy = "STRICT_SPREAD" if self.plan.spread else "PACK"
        self._group = ray.util.placement_group([bundle] * self.plan.ranks, strategy=strategy)
        if not self._group.wait(_PLACE_SECONDS):
            self._release()
            raise EngineUnavailableError(
                f"the cluster has no room for {self.plan.ranks} ranks of {bundle}", field="ranks", value=self.plan.ranks
            )
        actor = ray.remote(RankHost)
        self._actors = [self._placed(actor, rank) for rank in range(self.plan.ranks)]
        self.host, port = ray.get(self._actors[0].address.remote())
        shared = {"WORLD_SIZE": str(self.plan.ranks), "MASTER_ADDR": self.host, "MASTER_PORT": str(port)}
        started = []
        for rank, one in enumerate(self._actors):
            # A replica of one rank is an ordinary server: nobody else is to be met.
            own = shared | {"RANK": str(rank), "LOCAL_RANK": "0"} if self.plan.ranks > 1 else {}
            started.append(one.start.remote(list(self.plan.command), dict(self.plan.variables) | own))
        ray.get(started)

    def lost(self) -> RankLostError | None:
        """The rank that has ended, or whose host is gone; ``None``: all run."""
        ray = _ray()
        for rank, actor in enumerate(self._actors):
            try:
                status = ray.get(actor.status.remote())
            except ray.exceptions.RayError as error:
                return RankLostError(f"rank {rank}'s host is gone: {error}", field="rank", value=rank)
            if status is not None:
                return RankLostError(f"rank {rank} ended with status {status}", field="rank", value=rank)
        return None

    def restart(self) -> None:
        """Stop what is left and start again, wherever there is room."""
        self.stop()
        self.restarts += 1
        self.start()

    def stop(self, grace: float = _GRACE_SECONDS) -> None:
        """Stop all ranks and give their place back."""
        ray = _ray()
        for reference in [actor.stop.remote(grace) for actor in self._actors]:
            try:
                ray.get(reference)
            except ray.exceptions.RayError:
                continue  # it went with its host
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []
        self._release()

    def _placed(self, actor: Any, rank: int) -> Any:
        strategy = _ray().util.scheduling_strategies.PlacementGroupSchedulingStrategy(
            placement_group=self._group, placement_group_bundle_index=rank
        )
        options = {"num_cpus": self.plan.cpus, "num_gpus": self.plan.gpus, "scheduling_strategy": strategy}
        return actor.options(**options).remote()

    def _release(self) -> None:
        if self._group is not None:
            _ray().util.remove_placement_group(self._group)
            self._group = None


def start_replicas(plan: ReplicaPlan, count: int) -> list[RayReplica]:
    """``count`` replicas on the cluster that ``ray.init`` has connected to; all or none."""
    replicas: list[RayReplica] = []
    try:
        for _ in range(count):
            replicas.append(RayReplica(plan))
            replicas[-1].start()
    except BaseException:
        for replica in replicas:
            replica.stop()
        raise
    return replicas


def supervise(replicas: Sequence[RayReplica], seconds: float, poll: float = 0.5) -> None:
    """Restart replicas that lost a rank, for ``seconds``."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for replica in replicas:
            if replica.lost() is not None:
                replica.restart()
        time.sleep(poll)


def _ray() -> Any:
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise InvalidInputError("placement on a cluster needs Ray: pip install autoglm[ray]", field="ray") from error
    return ray
