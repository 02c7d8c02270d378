"""One engine under one load, in a process of its own: ``python -m autoglm.engine.trial --model PATH --config JSON …``.

A process of its own because torch's threads and a replica's ranks are set once a process. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from pathlib import Path

import msgspec
from msgspec import Struct

from autoglm.engine.config import EngineConfig
from autoglm.engine.engine import Engine
from autoglm.errors import AutoGLMError, EngineUnavailableError, InvalidInputError
from autoglm.messages import Failed, SamplingParams
from autoglm.prompt import Prompt


class Load(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked of the engine at once; ids are random, so that no prompt shares a prefix with another.

    Attributes:
        requests: at once. prompt_tokens, new_tokens: of each.
        repetitions: measured ones, after one that warms up.
    """

    requests: int = 4
    prompt_tokens: int = 256
    new_tokens: int = 16
    repetitions: int = 2


class Trial(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``seconds`` of each repetition, and the tokens of one, prompts included."""

    seconds: tuple[float, ...]
    tokens: int

    @property
    def rate(self) -> float:
        """Tokens a second, best repetition."""
        return self.tokens / min(self.seconds)


def run_trial(checkpoint: Path, config: EngineConfig, load: Load, limit: float) -> Trial:
    """Run a trial in a process of its own, which is ended after ``limit`` seconds.

    Raises:
        InvalidInputError: the engine does not run this way. EngineUnavailableError: it took too long.
    """
    options = ["--config", msgspec.json.encode(config).decode(), "--load", msgspec.json.encode(load).decode()]
    command = [sys.executable, "-m", "autoglm.engine.trial", "--model", str(checkpoint), *options]
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired as error:
        raise EngineUnavailableError(f"a trial took over {limit:g} s", field="limit", limit=limit) from error
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"status {done.returncode}"]
        raise InvalidInputError(f"a trial failed: {reason[0]}", field="config")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Trial)


def measure(engine: Engine, load: Load) -> Trial:
    """Load the engine, once to warm up and then for the record."""
    rng = random.Random(0)
    seconds = []
    for turn in range(load.repetitions + 1):
        started = time.perf_counter()
        _once(engine, load, rng, str(turn))
        seconds.append(time.perf_counter() - started)
    return Trial(seconds=tuple(seconds[1:]), tokens=load.requests * (load.prompt_tokens + load.new_tokens))


def _once(engine: Engine, load: Load, rng: random.Random, turn: str) -> None:
    marks = engine.prompts.image_token_ids
    texts = [i for i in range(engine.model.vocab_size) if i not in (marks.start, marks.image, marks.end)]
    sampling = SamplingParams(max_tokens=load.new_tokens, temperature=0.0, ignore_eos=True)
    for i in range(load.requests):
        ids = rng.choices(texts, k=load.prompt_tokens)
        engine.submit_prompt(f"{turn}/{i}", Prompt(token_ids=ids, images=()), sampling, salt=turn)
    while engine.has_work:
        for event in engine.step():
            if isinstance(event, Failed):
                raise InvalidInputError(event.error.message, field=event.error.field)


def main(argv: list[str] | None = None) -> int:
    """Entry point of the process: 0 and the result, or 2 and a reason."""
    parser = argparse.ArgumentParser(prog="autoglm.engine.trial")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--config", required=True, help="EngineConfig as JSON")
    parser.add_argument("--load", required=True, help="Load as JSON")
    options = parser.parse_args(argv)
    try:
        config = msgspec.json.decode(options.config, type=EngineConfig)
        engine = Engine.from_checkpoint(options.model, config)
        trial = measure(engine, msgspec.json.decode(options.load, type=Load))
        engine.close()
    except AutoGLMError as error:
        print(error.message, file=sys.stderr)
        return 2
    print(msgspec.json.encode(trial).decode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
