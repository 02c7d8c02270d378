"""Run the server until a signal: listen, serve, drain, stop the engine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import uvicorn

from autoglm.agent.model_client import ModelConfig
from autoglm.errors import EngineUnavailableError, InvalidInputError
from autoglm.server.app import create_app
from autoglm.server.caching.caches import ServerCaches
from autoglm.server.config import ServerConfig
from autoglm.server.console.hits import HitHistory, read, watch
from autoglm.server.console.phones import Phones
from autoglm.server.link import EngineLink

log = logging.getLogger(__name__)
_LAST_WRITES_SECONDS = 2
Announce = Callable[[str, EngineLink, ServerCaches], None]


class _Server(uvicorn.Server):
    """uvicorn, with signals left to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(config: ServerConfig, engine_command: Sequence[str], announce: Announce | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status.

    Args:
        engine_command: argv of the engine process, without ``--fd``.
        announce: called with the base URL once the port is bound.
    """
    return asyncio.run(_serve(config, engine_command, announce))


async def _serve(config: ServerConfig, engine_command: Sequence[str], announce: Announce | None) -> int:
    listener = _listen(config)
    link = EngineLink(engine_command, config.max_in_flight)
    phones = _phones(config, listener)
    caches = ServerCaches(config.caching, link)
    hits = HitHistory()
    app = create_app(config, link, caches, phones, hits)
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_keep_alive=30,
            # After the drain only clients that do not read are left.
            timeout_graceful_shutdown=_LAST_WRITES_SECONDS,
        )
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    link.start()
    caches.start()
    running = asyncio.create_task(server.serve(sockets=[listener]))
    watching = None if phones is None else asyncio.create_task(watch(hits, partial(read, link, caches)))
    try:
        if announce is not None:
            host, port = listener.getsockname()[:2]
            announce(f"http://{host}:{port}", link, caches)
        await asyncio.wait({running, asyncio.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
        await _drain(server, link, phones, config.grace)
    finally:
        if watching is not None:
            watching.cancel()
        await caches.close()
        await link.close()
        server.should_exit = True
        await running
    return 0


def _phones(config: ServerConfig, listener: socket.socket) -> Phones | None:
    """The console's phones; their agents ask this server, as any client does, over loopback."""
    console = config.console
    if console is None:
        return None
    model = ModelConfig(
        base_url=console.api_base or f"http://{_own_address(listener)}/v1",
        model=console.api_model or config.served_names[0],
        max_tokens=console.max_tokens,
        api_key=config.api_keys[0] if config.api_keys else "EMPTY",
    )
    return Phones(console, model)


def _own_address(listener: socket.socket) -> str:
    """Where the server reaches itself: a wildcard address means loopback, too."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _drain(server: uvicorn.Server, link: EngineLink, phones: Phones | None, grace: float) -> None:
    """Take no new connection, end the console's tasks, let running requests end, then fail them as retryable."""
    log.info("stopping: %d requests in flight, %g s grace", link.in_flight, grace)
    for listening in getattr(server, "servers", []):
        listening.close()
    if phones is not None:
        await phones.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(grace):
            while link.in_flight:
                await asyncio.sleep(0.02)
    link.fail_all(EngineUnavailableError("the server is shutting down; send the request again"))


def _listen(config: ServerConfig) -> socket.socket:
    try:
        listener = socket.create_server((config.host, config.port), family=_family(config.host), backlog=512)
    except OSError as error:
        raise InvalidInputError(
            f"cannot listen on {config.host} port {config.port}: {error.strerror}", field="port", value=config.port
        ) from error
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Accepted connections inherit it: the kernel drops one whose peer takes no data for so long (RFC 5482).
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, math.ceil(2000 * config.write_timeout))
    return listener


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
