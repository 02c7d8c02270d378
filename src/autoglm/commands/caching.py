"""The server's caches on the command line."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from autoglm import env
from autoglm.engine import EngineConfig
from autoglm.errors import InvalidInputError
from autoglm.server.caching.caches import ServerCaches
from autoglm.server.caching.config import CachingConfig

_POLL_SECONDS = 0.1
_SAMPLE = 2**16
_SMALL = 2**22


def add_caching_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``serve`` that say what is remembered, and where."""
    d = CachingConfig()
    group = parser.add_argument_group("caches")
    group.add_argument(
        "--redis-url",
        help="store shared with other servers (or set AUTOGLM_REDIS_URL); password: AUTOGLM_REDIS_PASSWORD",
    )
    group.add_argument("--cache-namespace", default=d.namespace, help=f"servers that share (default: {d.namespace})")
    group.add_argument("--no-models-cache", action="store_true", help="make the list of models anew each time")
    group.add_argument(
        "--response-cache", action="store_true", help="reuse finished answers of requests that name a session or a salt"
    )
    group.add_argument("--session-ttl", type=float, default=d.session_ttl, metavar="SECONDS")
    group.add_argument("--response-ttl", type=float, default=d.response_ttl, metavar="SECONDS")
    group.add_argument("--warm-up", type=Path, metavar="FILE", help="most valuable entries, saved and loaded")
    group.add_argument("--warm-up-prompts", type=Path, nargs="*", default=[], metavar="FILE", help="system prompts")
    group.add_argument("--warm-up-wait", action="store_true", help="not ready before the warm-up is done")


def caching_config(options: argparse.Namespace, checkpoint: Path, engine_json: str) -> CachingConfig:
    """The caches' part of parsed options. Raises :class:`InvalidInputError` for a prompt file that cannot be read."""
    return CachingConfig(
        redis_url=options.redis_url or env.redis_url(),
        redis_password=env.redis_password(),
        namespace=options.cache_namespace,
        models=not options.no_models_cache,
        responses=options.response_cache,
        session_ttl=options.session_ttl,
        response_ttl=options.response_ttl,
        model_tag=model_tag(checkpoint, engine_json) if options.response_cache else "",
        warm_up=options.warm_up,
        warm_up_prompts=tuple(_prompt(file) for file in options.warm_up_prompts),
        warm_up_wait=options.warm_up_wait,
    )


def sharing_prompts(engine: EngineConfig, options: argparse.Namespace) -> EngineConfig:
    """The engine's options, its prompts shared where the server's answers are, unless options say where.

    What decides answers is not changed. An address from the environment is not repeated: others can read command lines.
    """
    url = engine.prompt_redis_url or options.redis_url or ""
    name = engine.prompt_namespace
    if name == EngineConfig().prompt_namespace:
        name = options.cache_namespace
    return msgspec.structs.replace(engine, prompt_redis_url=url, prompt_namespace=name)


def model_tag(checkpoint: Path, engine_json: str) -> str:
    """A digest that tells one model from another: whole small files, size, head and tail of large ones, and options.

    Weights of many gigabytes are not read whole: two fine-tunes of one model differ in their tails, as training
    touches the last tensors, too.
    """
    whole = hashlib.sha256(engine_json.encode())
    for file in sorted(path for path in checkpoint.iterdir() if path.is_file()):
        size = file.stat().st_size
        whole.update(f"\0{file.name}\0{size}\0".encode())
        with file.open("rb") as source:
            whole.update(source.read(_SMALL if size <= _SMALL else _SAMPLE))
            if size > _SMALL:
                source.seek(-_SAMPLE, 2)
                whole.update(source.read())
    return whole.hexdigest()


async def show_warm_up(caches: ServerCaches, console: Console) -> None:
    """A progress line until the warm-up has ended."""
    if caches.warm:
        return
    columns = (TextColumn("warming up caches"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("warm", total=None)
        while not caches.warm:
            if caches.warming is not None:
                done, total = caches.warming
                progress.update(task, completed=done, total=total)
            await asyncio.sleep(_POLL_SECONDS)


def _prompt(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"--warm-up-prompts: {file} cannot be read: {error}", field="warm_up_prompts"
        ) from error
