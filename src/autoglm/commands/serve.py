"""``autoglm serve``: the OpenAI-compatible server."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

import msgspec
from rich.console import Console

from autoglm.commands.caching import add_caching_options, caching_config, sharing_prompts, show_warm_up
from autoglm.commands.keys import api_keys
from autoglm.commands.options import add_engine_options, engine_config
from autoglm.commands.progress import loading_bar
from autoglm.commands.ranks import follow, is_follower
from autoglm.model.resolve import PACKAGED, resolve_checkpoint
from autoglm.server import ConsoleConfig, EngineLink, LinkState, ServerConfig, serve
from autoglm.server.caching.caches import ServerCaches

_POLL_SECONDS = 0.1


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of the subcommand."""
    d = ServerConfig()
    parser = commands.add_parser("serve", help="serve a checkpoint over HTTP")
    parser.add_argument(
        "model",
        nargs="?",
        default=PACKAGED,
        help=f"checkpoint folder, name under AUTOGLM_MODEL_DIR, or hub id (default: the packaged {PACKAGED})",
    )
    parser.add_argument("--host", default=d.host, help=f"address to bind (default: {d.host})")
    parser.add_argument("--port", type=int, default=d.port, help=f"0 takes a free one (default: {d.port})")
    parser.add_argument(
        "--allowed-hosts",
        nargs="*",
        default=[],
        metavar="NAME",
        help="names clients may call this server by, besides localhost; others are refused on a loopback address, "
        "and elsewhere if names are given",
    )
    parser.add_argument(
        "--served-model-name",
        nargs="+",
        metavar="NAME",
        help=f"default: {d.served_names[0]}, or {PACKAGED} if that is the model",
    )
    parser.add_argument("--api-key-file", type=Path, help="file with one accepted key a line (or set AUTOGLM_API_KEYS)")
    parser.add_argument("--max-in-flight", type=int, default=d.max_in_flight)
    parser.add_argument("--max-body-bytes", type=int, default=d.max_body_bytes)
    parser.add_argument("--request-timeout", type=float, default=d.request_timeout, metavar="SECONDS")
    parser.add_argument("--body-timeout", type=float, default=d.body_timeout, metavar="SECONDS")
    parser.add_argument("--write-timeout", type=float, default=d.write_timeout, metavar="SECONDS")
    parser.add_argument("--grace", type=float, default=d.grace, metavar="SECONDS", help="for running requests on stop")
    parser.add_argument("--image-hosts", nargs="*", default=[], metavar="HOST", help="allow http(s) images from these")
    parser.add_argument("--image-directory", type=Path, help="allow file: images below this folder")
    parser.add_argument("--profile", type=Path, help="engine options from autoglm tune, where none are given here")
    _add_console_options(parser)
    add_caching_options(parser)
    add_engine_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until a signal."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    checkpoint = resolve_checkpoint(options.model)
    engine = engine_config(options, options.profile)
    engine_json = msgspec.json.encode(engine).decode()
    if is_follower(engine.tensor_parallel_size):
        return follow(checkpoint, engine_json)
    config = ServerConfig(
        host=options.host,
        port=options.port,
        allowed_hosts=tuple(options.allowed_hosts),
        served_names=_names(options),
        api_keys=api_keys(options.api_key_file),
        max_in_flight=options.max_in_flight,
        max_body_bytes=options.max_body_bytes,
        request_timeout=options.request_timeout,
        body_timeout=options.body_timeout,
        write_timeout=options.write_timeout,
        grace=options.grace,
        image_hosts=tuple(host.lower() for host in options.image_hosts),
        image_directory=options.image_directory,
        console=_console(options),
        caching=caching_config(options, checkpoint, engine_json),
    )
    engine = sharing_prompts(engine, options)
    return serve(config, engine_command(checkpoint, msgspec.json.encode(engine).decode()), _announce)


def engine_command(checkpoint: Path, config_json: str) -> list[str]:
    """argv of an engine process."""
    return [sys.executable, "-m", "autoglm.engine.process", "--model", str(checkpoint), "--config", config_json]


def _add_console_options(parser: argparse.ArgumentParser) -> None:
    d = ConsoleConfig()
    group = parser.add_argument_group("console")
    group.add_argument("--console", action=argparse.BooleanOptionalAction, default=True, help="serve /console/")
    group.add_argument("--max-phones", type=int, default=d.max_phones, help=f"at once (default: {d.max_phones})")
    group.add_argument("--phone-idle", type=float, default=d.phone_idle, metavar="SECONDS", help="then it is put away")
    group.add_argument(
        "--agent-max-tokens", type=int, default=d.max_tokens, help=f"of one answer (default: {d.max_tokens})"
    )


def _console(options: argparse.Namespace) -> ConsoleConfig | None:
    if not options.console:
        return None
    # The packaged model was trained without a system prompt; its template would drop one.
    prompt = options.model != PACKAGED
    return ConsoleConfig(
        max_phones=options.max_phones,
        phone_idle=options.phone_idle,
        max_tokens=options.agent_max_tokens,
        system_prompt=prompt,
    )


def _names(options: argparse.Namespace) -> tuple[str, ...]:
    if options.served_model_name:
        return tuple(options.served_model_name)
    return (PACKAGED,) if options.model == PACKAGED else ServerConfig().served_names


def _announce(url: str, link: EngineLink, caches: ServerCaches) -> None:
    print(f"autoglm listens on {url}", flush=True)
    link.watcher = asyncio.get_running_loop().create_task(_show_loading(url, link, caches))


async def _show_loading(url: str, link: EngineLink, caches: ServerCaches) -> None:
    console = Console(stderr=True)
    with loading_bar(console) as show:
        while link.state is not LinkState.READY:
            if link.progress is not None:
                show(link.progress.done, link.progress.total)
            await asyncio.sleep(_POLL_SECONDS)
        if link.progress is not None:
            show(link.progress.total, link.progress.total)
    if caches.config.warm_up_wait:
        await show_warm_up(caches, console)
    print(f"ready: {url}/v1", flush=True)
    await show_warm_up(caches, console)
