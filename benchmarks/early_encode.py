"""Time to first token of new screens, with images encoded while the text is still being tokenised, and without.

    python -m benchmarks.early_encode                        every case, 7 repetitions
    python -m benchmarks.early_encode --cases glm4v-small
    python -m benchmarks.early_encode --quick                the tiny models, one small screen

Each request has new screens and a text that nobody has tokenised before; the engine is idle. Both subjects answer the
same requests in turns, over the socket that the server speaks to; their tokens must be the same. ``built`` is the part
that can be hidden: from the pixels of the first screen to the finished prompt, on a free core.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from autoglm.engine import Engine, EngineConfig
from autoglm.messages import ChatMessage, ImagePart, Output, SamplingParams, Submit, TextPart
from autoglm.synthetic import make_checkpoint, make_phone_checkpoint
from benchmarks import results, workload
from benchmarks.checkpoints import kept
from benchmarks.dialogues import Connection, serving
from benchmarks.results import Failure, Row
from benchmarks.rows import RESULTS, ROOT, finished, row

RESULT = RESULTS / "early_encode.json"
SUBJECTS = {"off": False, "on": True}
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Case:
    """One model and one kind of request. ``side``: of a screen in pixels; ``words``: of the text, all of them new."""

    size: str
    make: Callable[[Path], Path]
    screens: int = 1
    side: int = 448
    words: int = 200


def _tiny(path: Path) -> Path:
    return make_checkpoint(path, "tiny")


CASES = {
    "glm4v-tiny": Case("tiny", _tiny),
    "glm4v-tiny, 3 screens": Case("tiny", _tiny, screens=3),
    "glm4v-small": Case("small", lambda path: make_checkpoint(path, "small")),
    "phone-tiny": Case("phone-tiny", make_phone_checkpoint),
}
QUICK = ("glm4v-tiny", "phone-tiny")


@dataclass(frozen=True, slots=True)
class Measured:
    """One answer. Seconds."""

    ttft: float
    built: float
    tokens: list[int]


def request(case: Case, number: int) -> list[ChatMessage]:
    """Screens and words that no other request has."""
    draw = random.Random(number)
    screens = [workload.screenshot(100 * number + i, case.side) for i in range(case.screens)]
    words = " ".join("".join(draw.choices(_LETTERS, k=draw.randint(2, 9))) for _ in range(case.words))
    return [ChatMessage("user", [*map(ImagePart, screens), TextPart(words)])]


def ask(connection: Connection, engine: Engine, messages: list[ChatMessage], name: str) -> Measured:
    """One request on an idle engine."""
    sampling = SamplingParams(temperature=0.0, max_tokens=4, ignore_eos=True)
    marks: list[float] = []
    builder = engine.prompts
    builder.build(messages, on_image=lambda _: marks.append(time.thread_time()))
    built = time.thread_time() - marks[0]
    builder.tokens = type(builder.tokens)(builder.tokenizer)  # nothing of it is remembered
    begun, first, tokens = time.perf_counter(), 0.0, []
    connection.send(Submit(id=name, messages=messages, sampling=sampling))
    while True:
        for event in connection.events():
            if isinstance(event, Output):
                first = first or time.perf_counter() - begun
                tokens += event.token_ids
                if event.finish is not None:
                    return Measured(first, built, tokens)


def measure(name: str, case: Case, checkpoint: Path, repetitions: int) -> tuple[list[Row], int]:
    """Rows of one case, and how many answers were not the same."""
    found: dict[tuple[str, str], list[float]] = {}
    differ = 0
    engines = {subject: Engine.from_checkpoint(checkpoint, _config(on)) for subject, on in SUBJECTS.items()}
    with ExitStack() as stack:
        connections = {subject: stack.enter_context(serving(engine)) for subject, engine in engines.items()}
        for repetition in range(repetitions + 1):
            messages = request(case, repetition)
            answers = []
            for subject in list(SUBJECTS)[:: 1 if repetition % 2 else -1]:
                answer = ask(connections[subject], engines[subject], messages, str(repetition))
                answers.append(answer.tokens)
                if repetition:  # the first is to warm up
                    found.setdefault((subject, "TTFT"), []).append(answer.ttft)
                    found.setdefault((subject, "built"), []).append(answer.built)
            differ += answers[0] != answers[1]
    stats = engines["on"].stats()
    found["on", "early encodes"], found["on", "used"] = [stats.early_encodes], [stats.early_used]
    for engine in engines.values():
        engine.check_integrity()
    return [_row(name, case, *key, values, found) for key, values in found.items()], differ


def _row(
    name: str, case: Case, subject: str, metric: str, values: list[float], found: dict[tuple[str, str], list[float]]
) -> Row:
    unit = {"TTFT": "s", "built": "CPU s"}.get(metric, "count")
    base = found.get(("off", metric)) if subject != "off" and unit != "count" else None
    return row(
        name, subject, metric, values, unit, baseline="off" if base else "", against=base or None, size=case.size
    )


def _config(early: bool) -> EngineConfig:
    # Pixels are not remembered: the prompt that is built to be timed would decode for the other.
    return EngineConfig(
        threads=1, kv_cache_bytes=64 * 2**20, image_cache_bytes=0, idle_prefill=False, early_encode=early
    )


def main() -> int:
    """Measure and write; status 1 if tokens differ."""
    options = _arguments()
    start = os.getloadavg()[0]
    rows: list[Row] = []
    failures: list[Failure] = []
    for name in QUICK if options.quick else options.cases:
        case = CASES[name]
        if options.quick:
            case = Case(case.size, case.make, side=112, words=20)
        checkpoint = kept(options.cache / "checkpoints" / case.size, case.make)
        fresh, differ = measure(name, case, checkpoint, 2 if options.quick else options.repetitions)
        rows += fresh
        if differ:
            failures.append(
                Failure(subject="on", size=case.size, threads=1, case=name, reason=f"{differ} answers differ")
            )
    settings = {
        name: f"{case.screens} of {case.side} x {case.side} pixels, {case.words} words" for name, case in CASES.items()
    }
    results.write(finished("early_encode", rows, settings, start, failures), options.out)
    for one in rows:
        print(f"{one.case:22} {one.subject:4} {one.metric:14} {one.value:10.5f} {one.unit}")
    return 1 if failures else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="the tiny models, one small screen")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "bench")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
