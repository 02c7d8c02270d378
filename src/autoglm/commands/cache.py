"""``autoglm cache``: look at, warm and purge the caches of a running server."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from autoglm.commands.keys import api_keys
from autoglm.errors import AutoGLMError, InvalidInputError

_DEFAULT_URL = "http://127.0.0.1:8000"
_TIMEOUT = 120.0


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of the subcommand."""
    parser = commands.add_parser("cache", help="statistics, warm-up and purge of a running server's caches")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for name, text in (("stats", "hit rates and sizes"), ("warm", "warm up again"), ("purge", "forget")):
        action = actions.add_parser(name, help=text)
        action.add_argument("--url", default=_DEFAULT_URL, help=f"of the server (default: {_DEFAULT_URL})")
        action.add_argument("--api-key-file", type=Path, help="its first key is used (or set AUTOGLM_API_KEYS)")
        if name == "stats":
            action.add_argument("--json", action="store_true", help="every figure, as the server gives it")
        if name == "purge":
            what = action.add_mutually_exclusive_group()
            what.add_argument("--session", help="only this session's answers")
            what.add_argument("--cache", choices=("responses", "models", "dialogue", "prompts"), help="only this cache")
        action.set_defaults(run=run, action=name)


def run(options: argparse.Namespace) -> int:
    """Ask the server; print what it says."""
    console = Console()
    if options.action == "stats":
        found = _ask(options, "GET", "/v1/cache/stats")
        if options.json:
            print(json.dumps(found, indent=1))
        else:
            _print_stats(found, console)
    elif options.action == "warm":
        console.print(f"{_ask(options, 'POST', '/v1/cache/warm')['entries']} entries are warm")
    else:
        _purge(options, console)
    return 0


def _purge(options: argparse.Namespace, console: Console) -> None:
    if options.session is not None:
        done = _ask(options, "DELETE", f"/v1/sessions/{options.session}/cache")
        console.print(f"{done['entries']} answers of session {options.session} are gone", highlight=False)
    else:
        query = "" if options.cache is None else f"?cache={options.cache}"
        done = _ask(options, "POST", f"/v1/cache/purge{query}")
        console.print(f"{options.cache or 'every cache'}: purged", highlight=False)
    if not done["everywhere"]:
        console.print("the shared store does not answer: other servers are told as soon as it does")


def _ask(options: argparse.Namespace, method: str, path: str) -> dict[str, Any]:
    import httpx

    keys = api_keys(options.api_key_file)
    headers = {"Authorization": f"Bearer {keys[0]}"} if keys else {}
    try:
        response = httpx.request(method, options.url.rstrip("/") + path, headers=headers, timeout=_TIMEOUT)
        body: dict[str, Any] = response.json()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise InvalidInputError(f"no server at {options.url}: {error}", field="url", value=options.url) from error
    except ValueError as error:
        raise InvalidInputError(f"{options.url} is not an autoglm server", field="url", value=options.url) from error
    if response.is_error:
        raise AutoGLMError(f"the server refuses: {body.get('error', {}).get('message', response.status_code)}")
    return body


def _print_stats(found: dict[str, Any], console: Console) -> None:
    table = Table(
        "cache",
        "hits",
        "local",
        "shared",
        "misses",
        "loads",
        "entries",
        "bytes",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in table.columns:
        column.no_wrap, column.justify = True, "right"
    table.columns[0].justify = "left"
    for cache in found["tiered"]:
        n, local = cache["counters"], cache["local"]
        table.add_row(
            *(cache["name"], f"{cache['hit_rate']:.1%}", _count(n["local_hits"]), _count(n["shared_hits"])),
            *(_count(n["misses"]), _count(n["loads"])),
            *(_count(local["entries"]), _count(local["bytes"])),
        )
    table.add_row(*_row_of("dialogue", found["dialogue"]))
    for cache in found["engine"]:
        table.add_row(*_row_of(cache["name"], cache))
    console.print(table)
    shared = found["shared"]
    if shared is None:
        console.print("no shared store: each server remembers for itself")
    else:
        console.print(
            f"shared store {shared['address']}: link {shared['link']}, breaker {shared['breaker']}, "
            f"{_count(shared['counters']['operations'])} operations, {_count(shared['counters']['errors'])} errors, "
            f"{shared['pending']} removals waiting",
            highlight=False,
        )


def _row_of(name: str, figures: dict[str, Any]) -> tuple[str, ...]:
    hits, misses = figures["hits"], figures["misses"]
    rate = f"{hits / (hits + misses):.1%}" if hits + misses else "-"
    sizes = (_count(figures[k]) if k in figures else "-" for k in ("entries", "bytes"))
    return (name, rate, _count(hits), "-", _count(misses), _count(figures.get("loads", 0)), *sizes)


def _count(value: float) -> str:
    """Short enough for eight columns on 80 characters: 9999, 12k, 3.4M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= max(size, 1e4):
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"
