"""The speculation benchmark in its smallest form."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from autoglm.engine import Engine, EngineConfig
from benchmarks import results, speculation
from benchmarks.speculation import Case, Plan, Tally
from benchmarks.speculation_cases import Episode, words


def test_rows_of_hand_made_figures() -> None:
    case = Case("c", "s", on=[Tally(1.0, 100, 50, 80, 50)], off=[Tally(2.0, 100, 100)])
    rows = {(row.subject, row.metric): row for row in speculation.rows_of(case)}
    assert rows[speculation.OFF, "decode"].value == 50
    assert rows[speculation.ON, "decode"].ratio == 2
    assert rows[speculation.ON, "tokens per step"].value == 2
    assert rows[speculation.ON, "drafts accepted"].value == 50 / 80


def test_random_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both engines answer, with the same tokens (or :meth:`Pair.ask` raises), and repeated questions are drafted."""

    def engine_on_a_clock(checkpoint: Path, config: EngineConfig) -> Engine:
        engine = Engine.from_checkpoint(checkpoint, config)
        engine.clock = itertools.count().__next__  # a step costs the same whatever its rows: drafts always pay
        return engine

    monkeypatch.setattr(speculation, "_engine", engine_on_a_clock)
    plan = Plan(tasks=0, questions=1, sizes=("tiny",), repetitions=1, phone_repetitions=0)
    again, never = speculation.random_weights(plan, tmp_path)
    rows = [row for case in (again, never) for row in speculation.rows_of(case)]
    assert not [problem for row in rows for problem in results.row_problems(row)]
    assert again.on[0].tokens == again.off[0].tokens > again.on[0].steps
    assert again.off[0].steps == again.off[0].tokens


def test_an_episode_goes_on_until_it_finishes_or_turns_in_circles() -> None:
    for answer, most in (('finish(message="done")', 1), ('do(action="Wait", duration="1 seconds")', 9), ("nothing", 1)):
        steps = 0
        episode = Episode(1, max_steps=12)
        for messages in episode.screens():
            steps += 1
            assert messages[-1].role == "user"
            episode.answer(answer)
        assert 1 <= steps <= most
    assert words(1, 20) == words(1, 20) != words(2, 20)
