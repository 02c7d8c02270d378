"""``autoglm generate``: one prompt, maybe with images, answered in the terminal."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.console import Console

from autoglm.commands.options import add_engine_options, engine_config
from autoglm.commands.progress import loading_bar
from autoglm.engine import Engine
from autoglm.errors import AutoGLMError, InvalidInputError
from autoglm.messages import ChatMessage, Failed, ImagePart, Output, SamplingParams, Submit, TextPart
from autoglm.model.resolve import resolve_checkpoint

_POLL_SECONDS = 0.001


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of the subcommand."""
    parser = commands.add_parser("generate", help="answer one prompt in the terminal")
    parser.add_argument("model", help="checkpoint folder, name under AUTOGLM_MODEL_DIR, or hub id")
    parser.add_argument("prompt", help="the user's text")
    parser.add_argument("--image", type=Path, action="append", default=[], help="PNG, JPEG or WebP; may be repeated")
    parser.add_argument("--system", help="system prompt")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--seed", type=int)
    add_engine_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the answer as it comes, then figures on stderr."""
    console = Console(stderr=True)
    sampling = SamplingParams(max_tokens=options.max_tokens, temperature=options.temperature, seed=options.seed)
    sampling.validate()
    parts: list[TextPart | ImagePart] = [ImagePart(_read(file)) for file in options.image]
    messages = [ChatMessage("user", [*parts, TextPart(options.prompt)])]
    if options.system:
        messages.insert(0, ChatMessage("system", options.system))
    with loading_bar(console) as progress:
        engine = Engine.from_checkpoint(resolve_checkpoint(options.model), engine_config(options), progress)
    try:
        start = time.perf_counter()
        engine.submit(Submit(id="cli", messages=messages, sampling=sampling))
        _print_answer(engine, console, start)
    finally:
        engine.close()
    return 0


def _print_answer(engine: Engine, console: Console, start: float) -> None:
    first = 0.0
    while engine.has_work:
        if not engine.can_step:
            time.sleep(_POLL_SECONDS)
            continue
        for event in engine.step():
            if isinstance(event, Failed):
                raise AutoGLMError(event.error.message, field=event.error.field)
            if not isinstance(event, Output):
                continue
            first = first or time.perf_counter()
            print(event.text, end="", flush=True)
            if event.finish is not None:
                usage, seconds = event.finish.usage, event.finish.decode_seconds
                print()
                console.print(
                    f"{usage.prompt_tokens} prompt tokens ({usage.image_tokens} of images), "
                    f"{usage.completion_tokens} new ({event.finish.reason}); TTFT {first - start:.3f} s, "
                    f"TPOT {1e3 * seconds / max(usage.completion_tokens - 1, 1):.2f} ms"
                )


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"--image: {error.strerror}: {file}", field="image", value=str(file)) from error
