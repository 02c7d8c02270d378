"""Endless streams of samples, made by worker processes: scenes of simulated phones with what an expert would do."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from autoglm.agent.actions import Tap, Type, format_action
from autoglm.agent.tasks.scenes import Sample, Scene, scene
from autoglm.agent.tasks.templates import TEMPLATES
from autoglm.prompt import ImageOptions, PhoneImageProcessor, PhoneOptions, Tokenizer
from training.dialogue import HOLD, TAP, answer_text, prompt_text
from training.evidence import evidence
from training.forward import Batch
from training.shape import CELLS, COLUMNS, PATCH
from training.symbols import symbols_of

_SPARE = 2
_WEIGHT = {
    "Launch": 0.35,
    "Type": 15.0,
    "TakeOver": 6.0,
    "SensitiveTap": 4.0,
    "Tap": 1.6,
    "Swipe": 1.6,
    "LongPress": 3.0,
}
"""How much rather a sample is taken than others of its screen (Efraimidis and Spirakis 2006)."""
_FAMILY = {
    "two": 3.5,
    "text": 1.5,
    "note": 1.4,
    "search": 1.5,
    "dialog": 2.0,
    "person": 1.6,
    "alarm": 1.3,
    "shop": 1.2,
}
"""The same by the family of its task: what needs most practice."""
_TURN = 6.0
"""The same for steps that hang on the last thought (a text is typed, a dialog answered, one of two goals reached):
rare, and a task fails without them."""


@dataclass(frozen=True, slots=True)
class SampleStream:
    """What a stream gives.

    Attributes:
        split: ``train``, ``validation`` or ``held_out``.
        screens, k: screens in a batch, and samples that share one.
        drawn: draw the pixels, too.
        tokens: tokenise dialogues (the vision tower alone needs none).
    """

    directory: Path
    split: str
    seed: int
    screens: int
    k: int
    drawn: bool
    tokens: bool = True


@dataclass(slots=True)
class Screens:
    """One batch. ``pixels [screens, 3, height, width]`` uint8 or None; ``symbols [screens, 4, cells]``."""

    symbols: Tensor
    pixels: Tensor | None
    batch: Batch | None
    kinds: list[str]
    """Of each sample: the kind of its action."""


class _Dialogues:
    """Turns samples into ids; marks where the reading head should look."""

    def __init__(self, directory: Path) -> None:
        self.tokenizer = Tokenizer.from_directory(directory)
        token = self.tokenizer.token_id
        ids = [token("<|user|>"), token("<|assistant|>"), token(TAP), token(","), token(HOLD)]
        assert all(i is not None for i in ids)
        self.user, self.assistant, self.tap, self.comma, self.hold = (int(i or 0) for i in ids)

    def encode(self, scenes: list[Scene]) -> Batch:
        rows, looks, copied = [], [], []
        drawn = [(one, one.phone.elements()) for one in scenes]
        triples = [(sample, elements, one.phone.size) for one, elements in drawn for sample in one.samples]
        for index, (sample, elements, size) in enumerate(triples):
            prompt = self.tokenizer.encode(prompt_text(sample.instruction, sample.current_app, sample.last_think))
            answer = self.tokenizer.encode(answer_text(sample.think, format_action(sample.action)))
            rows.append((prompt, answer))
            reason = evidence(sample, elements, size)
            if reason is not None:
                looks.append((index, len(prompt), reason))
            copied += [(index, row, column) for row, column in self._copies(prompt, answer, _said(sample))]
            if sample.target_cell is None:
                continue
            cell = sample.target_cell[0] * COLUMNS + sample.target_cell[1]
            tap = answer.index(self.tap if isinstance(sample.action, Tap) else self.hold)
            comma = answer.index(self.comma, tap)
            looks += [(index, len(prompt) + at, cell) for at in (tap, comma)]
        length = max(len(p) + len(a) for p, a in rows)
        ids = torch.zeros(len(rows), length, dtype=torch.int64)
        for index, (prompt, answer) in enumerate(rows):
            ids[index, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        return Batch(
            ids,
            torch.tensor([len(p) + len(a) for p, a in rows]),
            torch.tensor([p.index(self.user) for p, _ in rows]),
            torch.tensor([len(p) for p, _ in rows]),
            torch.tensor(looks, dtype=torch.int64).reshape(-1, 3),
            torch.tensor(copied, dtype=torch.int64).reshape(-1, 3),
        )

    def _copies(self, prompt: list[int], answer: list[int], text: str) -> list[tuple[int, int]]:
        """(row before, column in the instruction) of each token of ``text`` wherever the answer says it."""
        if not text:
            return []
        piece = self.tokenizer.encode(text)
        source = next(iter(_found(prompt[: prompt.index(self.user)], piece)), None)
        if source is None:
            return []
        starts = [len(prompt) + at for at in _found(answer, piece)]
        return [(start + i - 1, source + i) for start in starts for i in range(len(piece))]


def _said(sample: Sample) -> str:
    """What the instruction gives and the answer may have to repeat."""
    return sample.action.text if isinstance(sample.action, Type) else getattr(sample.task.goal, "text", "")


def _found(tokens: list[int], piece: list[int]) -> list[int]:
    """Where ``piece`` starts in ``tokens``."""
    return [at for at in range(len(tokens) - len(piece) + 1) if tokens[at : at + len(piece)] == piece]


class _Stream(IterableDataset[Screens]):
    def __init__(self, options: SampleStream) -> None:
        self.options = options

    def __iter__(self) -> Iterator[Screens]:
        options = self.options
        if get_worker_info() is not None:
            torch.set_num_threads(1)
            # A signal to the whole group is for the trainer, which still needs a batch to save its state and end.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
        worker = get_worker_info()
        rng = random.Random(f"{options.split}/{options.seed}/{worker.id if worker else 0}")
        dialogues = _Dialogues(options.directory) if options.tokens else None
        processor = screen_processor()
        while True:
            scenes = [
                _balanced(rng, scene(rng, options.split, _SPARE * options.k), options.k) for _ in range(options.screens)
            ]
            yield _collect(scenes, dialogues, processor, options)


def _balanced(rng: random.Random, one: Scene, k: int) -> Scene:
    """``k`` samples of the scene, rare actions first."""
    keys = {id(s): rng.random() ** (1 / _wanted(s)) for s in one.samples}
    chosen = sorted(one.samples, key=lambda s: keys[id(s)], reverse=True)[:k]
    return replace(one, samples=tuple(chosen))


def _wanted(sample: Sample) -> float:
    weight = _WEIGHT.get(kind_of(sample), 1.0) * _FAMILY.get(TEMPLATES[sample.task.template_id].family, 1.0)
    return weight * _TURN if sample.remembers else weight


def screen_processor() -> PhoneImageProcessor:
    """The processor of the served checkpoint."""
    half = (0.5, 0.5, 0.5)
    return PhoneImageProcessor(ImageOptions(image_mean=half, image_std=half), PhoneOptions(CELLS, PATCH))


def _collect(
    scenes: list[Scene], dialogues: _Dialogues | None, processor: PhoneImageProcessor, options: SampleStream
) -> Screens:
    symbols = np.stack([symbols_of(s.phone.elements(), s.phone.spec.width, s.phone.spec.height) for s in scenes])
    pixels = np.stack([_pixels(s, processor) for s in scenes]) if options.drawn else None
    samples = [sample for s in scenes for sample in s.samples]
    return Screens(
        torch.from_numpy(symbols.astype(np.int64)),
        None if pixels is None else torch.from_numpy(pixels),
        dialogues.encode(scenes) if dialogues else None,
        [kind_of(sample) for sample in samples],
    )


def kind_of(sample: Sample) -> str:
    """Name of the action, sensitive taps apart."""
    if isinstance(sample.action, Tap) and sample.action.message is not None:
        return "SensitiveTap"
    return type(sample.action).__name__


def _pixels(one: Scene, processor: PhoneImageProcessor) -> NDArray[np.float32]:
    return processor.process(np.asarray(one.phone.render())).pixels


def stream(options: SampleStream, workers: int = 1) -> Iterator[Screens]:
    """Batches without end; the same options give the same batches."""
    loader = DataLoader(_Stream(options), batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None)
    return iter(loader)
