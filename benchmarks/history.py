"""Does a step of the described layout take longer the longer its dialogue is? It should not, but for attention itself.

    python -m benchmarks.history               histories of up to some 8,000 tokens, under two minutes
    python -m benchmarks.history --quick       short ones, a narrow model
    python -m benchmarks.history --table docs/prefill.md    only writes the table of the result into that page

A phone's dialogue: each step brings a new screenshot and a few words, and drops the screenshot before. The text of the
history is cached, an image is one token, so a later step computes the vision tower and the new turns: with idle prefill
(and a second's pause) the newest only. Random weights of 12 layers of 768; times of later steps beside those of the
shortest history. What grows is attention: new rows times history.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

import torch

from autoglm.engine import Engine, EngineConfig
from autoglm.model.autoglm_phone.synthetic import tiny_phone_config
from autoglm.model.synthetic import write_configs
from autoglm.prompt import PromptBuilder
from autoglm.prompt.synthetic import write_tokenizer
from autoglm.synthetic import STOP_TOKENS
from benchmarks import results
from benchmarks.dialogues import Phone, Script, play, serving
from benchmarks.gpu_models import random_model
from benchmarks.results import Row
from benchmarks.rows import RESULTS, add_table_option, finished, row, wrote_table

RESULT = RESULTS / "history.json"
SUBJECTS = {"idle prefill off": False, "idle prefill on": True}
WORDS = (10, 400, 1300, 3000, 6400)
"""Of the text before the first turn."""
_TEXT = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "intermediate_size": 2560,
}
_VISION = {"hidden_size": 384, "depth": 8, "num_heads": 6, "intermediate_size": 1280}
_FUSION = {"layers": [6, 8, 10], "num_heads": 12, "num_kv_heads": 1, "head_dim": 64, "gate_rank": 16}


def main(arguments: list[str] | None = None) -> int:
    """Measure and write the result; status 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short histories, a narrow model")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULT)
    add_table_option(parser)
    options = parser.parse_args(arguments)
    if wrote_table(options, "history"):
        return 0
    load = os.getloadavg()[0]
    torch.set_num_threads(1)
    rows: list[Row] = []
    words = (10, 100) if options.quick else WORDS
    shortest: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        model_at(Path(name), narrow=options.quick)
        for count in words:
            for subject, ahead in SUBJECTS.items():
                phones = [dialogue(Path(name), count, number, ahead) for number in range(options.repetitions)]
                rows += rows_of(subject, phones, shortest)
    results.write(finished("history", rows, {"model": str(_TEXT | {"tower": _VISION})}, load), options.out)
    for one in rows:
        print(f"{one.case:28} {one.subject:17} {one.metric:22} {one.value:9.4g} {one.unit:8} {one.ratio or ''}")
    return 0


def model_at(folder: Path, *, narrow: bool) -> None:
    """Configuration and tokenizer; weights are made with each engine."""
    ids = write_tokenizer(folder)
    stops = [ids[name] for name in STOP_TOKENS]
    raw = tiny_phone_config(ids, stops, context=16384)
    if not narrow:
        raw["text_config"] |= _TEXT
        raw["vision_config"] |= _VISION
        raw["fusion_config"] |= _FUSION
    write_configs(folder, raw, stops)


def dialogue(folder: Path, words: int, number: int, ahead: bool) -> Phone:
    """One phone's, against an engine of its own; ``ahead``: idle prefill, and time for it."""
    model = random_model(folder, torch.float32, torch.device("cpu"))
    builder = PromptBuilder.from_checkpoint(folder, model.layout)
    engine = Engine(model, builder, EngineConfig(idle_prefill=ahead, speculation=False, threads=1))
    phone = Phone(number, Script(steps=4, new_tokens=8, system_words=words))
    with serving(engine) as connection:
        play(connection, [phone], think=1.0 if ahead else 0.0)
    engine.check_integrity()
    return phone


def rows_of(subject: str, phones: list[Phone], shortest: dict[str, list[float]]) -> list[Row]:
    """Of one length. ``shortest``: CPU seconds to the first token of later steps, which the first call of a subject
    sets."""
    later = [step for phone in phones for step in phone.steps[1:]]
    case = f"history of {round(median(step.prompt for step in later))} tokens"
    times = [step.ttft_cpu for step in later]
    known = shortest.get(subject)
    shortest.setdefault(subject, times)
    baseline = "" if known is None else "shortest history"
    return [
        row(case, subject, "TTFT later steps", [step.ttft for step in later], "s"),
        row(case, subject, "TTFT later steps, CPU", times, "CPU s", baseline=baseline, against=known),
        row(case, subject, "TTFT first step", [phone.steps[0].ttft for phone in phones], "s"),
        row(case, subject, "tokens to compute", [step.prompt - step.cached for step in later], "count"),
    ]


if __name__ == "__main__":
    sys.exit(main())
