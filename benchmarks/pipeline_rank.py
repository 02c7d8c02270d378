"""One rank of :mod:`benchmarks.pipeline`: rank 0 measures and writes JSON, the others follow it.

    python -m benchmarks.pipeline_rank CHECKPOINT --work throughput --engine '{"pipeline_parallel_size": 2}'

Alone it starts the other ranks itself; with ``RANK`` set (as torchrun does) it is one of them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from pathlib import Path

import msgspec
from torch import Tensor

from autoglm.engine import Engine, EngineConfig
from autoglm.engine.pipeline.runner import PipelineRunner
from autoglm.engine.pipeline.stage import StageRunner
from autoglm.engine.pipeline.start import flights_of
from autoglm.engine.ranks import worker
from autoglm.messages import Output, SamplingParams
from autoglm.model.context import ForwardContext
from autoglm.model.stage import StageModel
from autoglm.parallel.pipeline.bubble import measured_bubble
from autoglm.prompt import Prompt

_WORDS = range(100, 8000)
Found = dict[str, dict[str, float]]
"""Metrics by case."""


class BallastStage(StageModel):
    """A stage that takes ``seconds``, a known time that needs no core: its own work, and sleep up to that."""

    seconds = 0.0

    def run(self, hidden: Tensor, queries: Tensor | None, context: ForwardContext) -> tuple[Tensor, Tensor | None]:
        until = time.perf_counter() + self.seconds
        found = super().run(hidden, queries, context)
        time.sleep(max(0.0, until - time.perf_counter()))
        return found


def throughput(engine: Engine, options: argparse.Namespace) -> Found:
    """By number of requests: prompt tokens a second to the last first token, and tokens a second after that; best."""
    draw = random.Random(0)
    found = {}
    for requests in options.requests:
        prefill, decode = [], []
        for _ in range(options.repetitions + 1):  # the first warms up
            first, rest = _serve(engine, options, requests, draw)
            prefill.append(requests * options.prompt / first)
            decode.append(requests * (options.answer - 1) / rest)
        found[str(requests)] = {"prefill": max(prefill[1:]), "decode": max(decode[1:])}
    return found


def _serve(engine: Engine, options: argparse.Namespace, requests: int, draw: random.Random) -> tuple[float, float]:
    sampling = SamplingParams(temperature=0.0, max_tokens=options.answer, ignore_eos=True)
    for number in range(requests):
        ids = [draw.choice(_WORDS) for _ in range(options.prompt)]
        engine.submit_prompt(str(number), Prompt(ids, ()), sampling)
    start = time.perf_counter()
    waiting = {str(number) for number in range(requests)}
    first = start
    while engine.has_work:
        for event in engine.step():
            if isinstance(event, Output) and event.id in waiting:
                waiting.remove(event.id)
                first = time.perf_counter()
    return first - start, time.perf_counter() - first


def bubble(engine: Engine, options: argparse.Namespace) -> Found:
    """By number of micro-batches: the share of idle time in one pass of a prompt that makes so many; median."""
    runner = engine.runner
    assert isinstance(runner, PipelineRunner)
    draw = random.Random(0)
    found = {}
    for number in options.micro_batches:
        engine.flights = flights_of(runner, msgspec.structs.replace(engine.config, pipeline_micro_batches=number))
        tokens = options.prompt * (number if options.each else 1)
        shares = []
        for _ in range(options.repetitions + 1):
            engine.submit_prompt("prompt", Prompt([draw.choice(_WORDS) for _ in range(tokens)], ()), _ONE)
            while engine.has_work:
                engine.step()
            intervals = runner.intervals()
            if len(intervals[0]) != number:
                raise RuntimeError(f"{len(intervals[0])} micro-batches ran, not {number}")
            shares.append(measured_bubble(intervals).share)
        found[str(number)] = {"bubble": statistics.median(shares[1:])}
    return found


_ONE = SamplingParams(temperature=0.0, max_tokens=1)
_WORK = {"throughput": throughput, "bubble": bubble}


def main() -> int:
    """Entry point of every rank."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--work", choices=_WORK, required=True)
    parser.add_argument("--engine", default="{}", help="engine options as JSON")
    parser.add_argument("--requests", type=int, nargs="+", default=[1])
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--each", action="store_true", help="bubble: --prompt is of one micro-batch")
    parser.add_argument("--answer", type=int, default=16)
    parser.add_argument("--micro-batches", type=int, nargs="+", default=[1])
    parser.add_argument("--ballast", type=float, default=0.0, help="seconds that each stage takes for a micro-batch")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    if options.ballast:
        BallastStage.seconds = options.ballast
        StageRunner.kind = BallastStage
    if os.environ.get("RANK", "0") != "0":
        return worker.main(["--model", str(options.checkpoint), "--config", options.engine])
    engine = Engine.from_checkpoint(options.checkpoint, _config(options.engine))
    try:
        found = _WORK[options.work](engine, options)
    finally:
        engine.close()
    print(json.dumps(found), flush=True)
    return 0


def _config(text: str) -> EngineConfig:
    return msgspec.json.decode(text, type=EngineConfig)


if __name__ == "__main__":
    sys.exit(main())
