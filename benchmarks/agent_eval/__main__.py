"""``python -m benchmarks.agent_eval``: single steps and whole tasks on layouts that training never saw.

Writes ``benchmarks/results/agent_eval.json`` and prints tables by task, language and theme.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

from autoglm.agent.model_client import ModelClient, ModelConfig
from autoglm.commands.embedded import served
from benchmarks.agent_eval.episodes import EpisodeScore, run_episode
from benchmarks.agent_eval.report import Sections, result_of, show
from benchmarks.agent_eval.steps import StepScore, score_step
from benchmarks.results import write

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
OUT = ROOT / "benchmarks" / "results" / "agent_eval.json"
PHONES = 8


def main() -> int:
    """Status 0 when the gate of the model card is met on held-out layouts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agent_eval", description=__doc__)
    parser.add_argument("--model", default="autoglm-phone-mini")
    parser.add_argument("--base-url", help="ask this server instead of starting one")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--episodes", type=int, default=200, help="tasks on held-out layouts")
    parser.add_argument("--others", type=int, default=100, help="tasks each with held-out phrases and templates")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--failures", action="store_true", help="print every miss")
    parser.add_argument("serve", nargs="*", help="further options of autoglm serve, behind --")
    options = parser.parse_args()
    if options.base_url:
        sections = asyncio.run(_measure(options.base_url, options))
    else:
        with served(options.model, options.serve) as url:
            sections = asyncio.run(_measure(url, options))
    result = result_of(sections, options.model, ROOT)
    write(result, options.out)
    passed = show(sections, Console(), failures=options.failures)
    print(f"wrote {options.out}")
    return 0 if passed else 1


async def _measure(url: str, options: argparse.Namespace) -> Sections:
    config = ModelConfig(url, model=options.model)
    client = ModelClient(config)
    with Progress() as bar:

        async def steps(seed: int) -> StepScore:
            return await score_step(client, seed, "held_out_layouts")

        def episodes(split: str) -> Callable[[int], Awaitable[EpisodeScore]]:
            return lambda seed: run_episode(config, seed, split)

        try:
            return Sections(
                steps=await _all(bar, "single steps", steps, range(options.steps), 2),
                layouts=await _all(bar, "tasks, one phone", episodes("held_out_layouts"), range(options.episodes), 1),
                phrases=await _all(bar, "held-out phrases", episodes("held_out_phrases"), range(options.others), 2),
                templates=await _all(
                    bar, "held-out templates", episodes("held_out_templates"), range(options.others), 2
                ),
                eight=await _all(bar, "eight phones", episodes("held_out_layouts"), range(options.others), PHONES),
            )
        finally:
            await client.close()


async def _all(
    bar: Progress, name: str, job: Callable[[int], Awaitable[T]], seeds: Sequence[int], at_once: int
) -> list[T]:
    """Jobs of all seeds, at most ``at_once`` at a time, in the seeds' order."""
    task = bar.add_task(name, total=len(seeds))
    free = asyncio.Semaphore(at_once)

    async def one(seed: int) -> T:
        async with free:
            done = await job(seed)
            bar.advance(task)
            return done

    return list(await asyncio.gather(*(one(seed) for seed in seeds)))


if __name__ == "__main__":
    sys.exit(main())
