"""Every stage runs, resumes and ends in a checkpoint that the engine loads."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from autoglm.model.loading import load_checkpoint
from autoglm.prompt import PromptBuilder
from training.data import SampleStream, stream
from training.shape import CELLS
from training.symbols import SIZES, SymbolVectors


def run(work: Path, out: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "training", *arguments, "--work", str(work), "--out", str(out), "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def last_row(curve: Path) -> dict[str, float]:
    row: dict[str, float] = json.loads(curve.read_text().splitlines()[-1])
    return row


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    run(folder, folder / "out", "tokens", "--text-scenes", "60")
    return folder


def test_a_whole_run_in_seconds(work: Path) -> None:
    out = work / "out"
    few = ("--check-batches", "1", "--align-batches", "4")
    run(work, out, "policy", "reading", "acting", "joint", "export", "--minutes", "0.02", *few)
    before = last_row(work / "policy.jsonl")
    run(work, out, "policy", "--minutes", str(before["seconds"] / 60 + 0.01), *few)
    assert last_row(work / "policy.jsonl")["steps"] > before["steps"]
    model = load_checkpoint(out)
    assert model.layout == "autoglm_phone"
    assert model.dtype == torch.float16
    assert (out / "model.safetensors").stat().st_size < 25e6
    assert PromptBuilder.from_checkpoint(out, "autoglm_phone").tokenizer.vocab_size == model.vocab_size


def test_a_signal_to_the_whole_group_leaves_the_trainer_its_batches(work: Path) -> None:
    """It saves its state after the step under way, which may need one more batch."""
    before = multiprocessing.active_children()
    batches = stream(SampleStream(work / "tokens", "train", 1, screens=1, k=2, drawn=False), workers=1)
    next(batches)
    (worker,) = set(multiprocessing.active_children()) - set(before)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGTERM)
    assert all(len(next(batches).kinds) == 2 for _ in range(8))  # more than are made in advance


def test_batches_are_reproducible_and_symbols_fit_their_tables(work: Path) -> None:
    options = SampleStream(work / "tokens", "validation", 3, screens=2, k=3, drawn=True)
    one, other = next(stream(options, workers=0)), next(stream(options, workers=0))
    assert one.batch is not None
    assert other.batch is not None
    assert one.pixels is not None
    assert other.pixels is not None
    assert torch.equal(one.batch.ids, other.batch.ids)
    assert torch.equal(one.pixels, other.pixels)
    assert one.symbols.shape == (2, 4, CELLS)
    for index, size in enumerate(SIZES):
        assert 0 <= int(one.symbols[:, index].min()) <= int(one.symbols[:, index].max()) < size
    vectors = SymbolVectors.make()
    for index, logits in enumerate(vectors.logits(vectors.features(one.symbols))):
        assert torch.equal(logits.argmax(-1), one.symbols[:, index])
