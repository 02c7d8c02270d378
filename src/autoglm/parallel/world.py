"""Ranks that somebody else has started, on one host or several: the environment of torchrun."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from autoglm.errors import RankMismatchError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

_KEY = "autoglm/channel"
_SIOCGIFADDR = 0x8915
_ASK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class World:
    """This process among the started ones.

    Attributes:
        host, port: where all find rank 0: its channel, or torchrun's own store, in which it publishes the channel.
    """

    rank: int
    size: int
    host: str
    port: int
    agent_store: bool

    @classmethod
    def of(cls, variables: Mapping[str, str] | None = None) -> World | None:
        """From ``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR`` and ``MASTER_PORT``; ``None``: nobody has set them.

        Raises:
            RankMismatchError: one of them is missing or no number.
        """
        env = os.environ if variables is None else variables
        if "RANK" not in env or "WORLD_SIZE" not in env:
            return None
        try:
            return cls(
                rank=int(env["RANK"]),
                size=int(env["WORLD_SIZE"]),
                host=env["MASTER_ADDR"],
                port=int(env["MASTER_PORT"]),
                agent_store=env.get("TORCHELASTIC_USE_AGENT_STORE", "") == "True",
            )
        except (KeyError, ValueError) as error:
            raise RankMismatchError(
                f"RANK and WORLD_SIZE are set, but MASTER_ADDR and MASTER_PORT do not go with them: {error}",
                field="MASTER_ADDR",
            ) from error

    def check(self, world_size: int) -> None:
        """Raises :class:`RankMismatchError` if the options make another number of ranks than were started."""
        if self.size != world_size:
            raise RankMismatchError(
                f"WORLD_SIZE is {self.size}, but the options make {world_size} ranks",
                field="world_size",
                limit=world_size,
                value=self.size,
            )

    def publish(self, listener: socket.socket) -> None:
        """Rank 0: let the others know where it listens in this life."""
        if self.agent_store:
            self._agent().set(_KEY, f"tcp:{self.host}:{listener.getsockname()[1]}")

    def listen_address(self) -> str:
        """Rank 0: where its channel is to listen."""
        return f"tcp:{self.host}:{0 if self.agent_store else self.port}"

    def channel(self) -> str:
        """Any other rank: where rank 0 listens, as far as is known now."""
        if not self.agent_store:
            return f"tcp:{self.host}:{self.port}"
        return self._agent().get(_KEY).decode()

    def _agent(self) -> Store:
        from torch._C._distributed_c10d import TCPStore  # a server asks who it is, and has no other need of torch

        return TCPStore(self.host, self.port, is_master=False, timeout=timedelta(seconds=_ASK_SECONDS))


def interface_of(connection: socket.socket) -> str | None:
    """Name of the network interface a connection goes through; ``None``: unknown (IPv6, or no such system call)."""
    if connection.family != socket.AF_INET:
        return None
    own = socket.inet_aton(connection.getsockname()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                found = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue  # it has no IPv4 address
            if found[20:24] == own:
                return name
    return None
