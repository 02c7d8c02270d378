"""Decoding with drafts beside decoding without, on the same questions in the same run.

    python -m benchmarks.speculation             writes benchmarks/results/speculation.json
    python -m benchmarks.speculation --quick     half a minute, small cases

Both engines get every question in turn, first one then the other; CPU seconds of the process from an answer's first
token to its last. Their tokens must be the same: the run fails where they are not.

- phone tasks: the packaged model operates the simulated phone, whole tasks, sampling as the phone client asks for it;
- asked again: random weights; each question comes three times, so the second and third answer are known;
- never asked: random weights, new questions only; nothing can be known, so this is what drafting costs.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

import autoglm
from autoglm.agent.examples import answer_examples
from autoglm.engine import Engine, EngineConfig
from autoglm.messages import ChatMessage, Failed, Output, SamplingParams, Submit
from autoglm.model.resolve import PACKAGED, resolve_checkpoint
from autoglm.synthetic import make_checkpoint
from benchmarks import results
from benchmarks.results import Load, Result, Row
from benchmarks.speculation_cases import Episode, words

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "speculation.json"
ON, OFF = "autoglm", "autoglm-one-by-one"
CLIENT = SamplingParams(temperature=0.0, frequency_penalty=0.2, max_tokens=256)
RANDOM = SamplingParams(temperature=0.0, frequency_penalty=0.2, max_tokens=64, ignore_eos=True)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is asked."""

    tasks: int
    questions: int
    sizes: tuple[str, ...]
    repetitions: int
    phone_repetitions: int


FULL = Plan(tasks=6, questions=4, sizes=("tiny", "small"), repetitions=4, phone_repetitions=12)
QUICK = Plan(tasks=2, questions=3, sizes=("tiny",), repetitions=1, phone_repetitions=1)


@dataclass(slots=True)
class Tally:
    """What one engine did in one repetition of a case: CPU seconds of decoding, and tokens and steps of it."""

    seconds: float = 0.0
    tokens: int = 0
    steps: int = 0
    drafted: int = 0
    accepted: int = 0


@dataclass(slots=True)
class Case:
    """One row group: the repetitions of both subjects."""

    name: str
    size: str
    on: list[Tally] = field(default_factory=list)
    off: list[Tally] = field(default_factory=list)


class Pair:
    """Two engines on one checkpoint, alike but for speculation."""

    def __init__(self, checkpoint: Path, sampling: SamplingParams, repetition: int) -> None:
        drafting = EngineConfig(threads=1, speculation=True, draft_examples=tuple(answer_examples()))
        # Where in memory an engine comes to lie moves its speed by several percent: they take turns at being made, too.
        if repetition % 2:
            self.off = _engine(checkpoint, EngineConfig(threads=1, speculation=False))
            self.on = _engine(checkpoint, drafting)
        else:
            self.on = _engine(checkpoint, drafting)
            self.off = _engine(checkpoint, EngineConfig(threads=1, speculation=False))
        gc.collect()
        gc.freeze()  # as the engine's process does
        self._sampling = sampling
        self._turn = 0

    def ask(self, messages: list[ChatMessage], tallies: tuple[Tally, Tally]) -> str:
        """Both, who is first takes turns. Raises :class:`RuntimeError` if their tokens differ."""
        both = [(self.on, tallies[0]), (self.off, tallies[1])]
        self._turn += 1
        answers = [self._one(engine, tally, messages) for engine, tally in both[:: 1 if self._turn % 2 else -1]]
        if answers[0] != answers[1]:
            raise RuntimeError(f"drafting changed an answer: {answers[0][0]} and {answers[1][0]}")
        return answers[0][1]

    def close(self) -> None:
        """End both engines."""
        self.on.close()
        self.off.close()
        gc.unfreeze()

    def _one(self, engine: Engine, tally: Tally, messages: list[ChatMessage]) -> tuple[list[int], str]:
        tokens: list[int] = []
        text, start = "", 0.0
        before = engine.decode_steps
        engine.submit(Submit(id="question", messages=messages, sampling=self._sampling))
        while engine.has_work:
            if not engine.can_step:
                time.sleep(0.0005)
                continue
            events = engine.step()
            now = time.process_time()
            for event in events:
                if isinstance(event, Failed):
                    raise RuntimeError(event.error.message)
                if isinstance(event, Output):
                    start = start or now
                    tokens += event.token_ids
                    text += event.text
                    if event.finish is not None:
                        tally.drafted += event.finish.usage.drafted_tokens
                        tally.accepted += event.finish.usage.accepted_tokens
        tally.seconds += now - start
        tally.tokens += len(tokens) - 1
        tally.steps += engine.decode_steps - before
        return tokens, text


def _engine(checkpoint: Path, config: EngineConfig) -> Engine:
    return Engine.from_checkpoint(checkpoint, config)


def main() -> int:
    """Measure, print, write; status 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cases", nargs="+", choices=("phone", "random"), default=("phone", "random"))
    parser.add_argument("--sizes", nargs="+", help="of the random checkpoints")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    plan = QUICK if options.quick else FULL
    if options.sizes:
        plan = replace(plan, sizes=tuple(options.sizes))
    start = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        cases = [*(phone(plan) if "phone" in options.cases else ())]
        if "random" in options.cases:
            cases += random_weights(plan, Path(scratch))
    end = os.getloadavg()[0]
    result = Result(
        name="speculation",
        date=results.now(),
        commit=results.commit(ROOT),
        machine=results.machine(),
        load=Load(start=start, end=end, highest=max(start, end)),
        versions={"python": sys.version.split()[0], "torch": str(torch.__version__), "autoglm": autoglm.__version__},
        settings={
            "time": "CPU of the process from an answer's first token to its last; both engines take turns",
            "sampling": "temperature 0, frequency_penalty 0.2",
            "draft": f"up to {EngineConfig().draft_tokens} tokens",
            "plan": repr(plan),
        },
        rows=[row for case in cases for row in rows_of(case)],
        failures=[],
    )
    results.write(result, options.out)
    for row in result.rows:
        ratio = "" if row.ratio is None else f"{row.ratio:6.2f}x {row.baseline}"
        print(f"{row.case:12} {row.size:6} {row.subject:20} {row.metric:16} {row.value:9.2f} {row.unit:9} {ratio}")
    return 0


def phone(plan: Plan) -> Iterator[Case]:
    """Whole tasks; what was learnt in one helps in the next, but not from one repetition to another."""
    case = Case("phone tasks", "mini")
    for repetition in range(plan.phone_repetitions):
        pair = Pair(resolve_checkpoint(PACKAGED), CLIENT, repetition)
        case.on.append(Tally())
        case.off.append(Tally())
        for task in range(plan.tasks):
            episode = Episode(repetition * plan.tasks + task, max_steps=12)
            for messages in episode.screens():
                episode.answer(pair.ask(messages, (case.on[-1], case.off[-1])))
        pair.close()
    yield case


def random_weights(plan: Plan, scratch: Path) -> Iterator[Case]:
    """Answers that nothing but their repetition makes predictable."""
    for size in plan.sizes:
        checkpoint = make_checkpoint(scratch / size, size)
        again, never = Case("asked again", size), Case("never asked", size)
        for repetition in range(plan.repetitions):
            for case, times in ((again, 3), (never, 1)):
                pair = Pair(checkpoint, RANDOM, repetition)
                case.on.append(Tally())
                case.off.append(Tally())
                for question in range(plan.questions):
                    for _ in range(times):
                        pair.ask(words(repetition * 100 + question, 80), (case.on[-1], case.off[-1]))
                pair.close()
        yield from (again, never)


def rows_of(case: Case) -> list[Row]:
    """Speed of both, with the ratio of the medians; steps and acceptance of the drafting one."""
    with_drafts = [t.tokens / t.seconds for t in case.on]
    without = [t.tokens / t.seconds for t in case.off]
    per_step = [t.tokens / t.steps for t in case.on]
    accepted = [t.accepted / t.drafted if t.drafted else 0.0 for t in case.on]
    return [
        _row(case, OFF, "decode", without, "tok/CPU s"),
        _row(case, ON, "decode", with_drafts, "tok/CPU s", without),
        _row(case, ON, "tokens per step", per_step, "tokens", [t.tokens / t.steps for t in case.off]),
        _row(case, ON, "drafts accepted", accepted, "share"),
    ]


def _row(
    case: Case, subject: str, metric: str, values: list[float], unit: str, against: list[float] | None = None
) -> Row:
    value = sorted(values)[len(values) // 2]
    return Row(
        case=case.name,
        subject=subject,
        metric=metric,
        value=value,
        unit=unit,
        baseline="" if against is None else OFF,
        ratio=None if against is None else results.ratio(value, sorted(against)[len(against) // 2], unit),
        best=max(values),
        repetitions=len(values),
        size=case.size,
        threads=1,
    )


if __name__ == "__main__":
    raise SystemExit(main())
