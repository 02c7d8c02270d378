"""The shipped checkpoint, served as its users serve it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from autoglm.agent.events import Outcome
from autoglm.agent.model_client import ModelConfig
from autoglm.cli import main
from autoglm.commands.agent import STATUS
from autoglm.commands.embedded import served
from autoglm.model.resolve import PACKAGED, resolve_checkpoint
from benchmarks.agent_eval.episodes import run_episode

EPISODES = 20
DONE_AT_LEAST = 6
"""Finishing at once does 1 in 9; the shipped weights do about half."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(PACKAGED, ["--no-console"]) as base:
        yield base


def test_it_is_in_the_package_and_small() -> None:
    folder = resolve_checkpoint(PACKAGED)
    assert folder.parent.parent == Path(resolve_checkpoint.__code__.co_filename).parents[1]
    assert (folder / "model.safetensors").stat().st_size <= 25_000_000


async def test_it_does_tasks_on_unseen_layouts(url: str) -> None:
    scores = [await run_episode(ModelConfig(url, model=PACKAGED), seed, "held_out_layouts") for seed in range(EPISODES)]
    assert sum(score.success for score in scores) >= DONE_AT_LEAST
    broken = (Outcome.MODEL_ERROR, Outcome.DEVICE_ERROR)
    assert not [s.outcome for s in scores if s.outcome.startswith(broken)]
    later = [usage for score in scores for usage in score.usages[1:]]
    assert later
    assert all(usage.cached_tokens for usage in later)  # the instruction's state is never computed twice


def test_the_command_needs_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["agent", "打开设置", "--seed", "20261031", "--theme", "light"])
    said = capsys.readouterr().out
    assert 'do(action="Launch", app="设置")' in said
    assert "prompt tokens cached" in said
    assert status in STATUS.values()
