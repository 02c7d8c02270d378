"""`transformers` with its own Glm4v model: the baseline, and the reference for greedy tokens.

The processor is put together by hand: `AutoProcessor` needs torchvision for videos, and nothing here does.
Several requests at once run as one static batch, padded on the left.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from transformers import Glm4vForConditionalGeneration, PreTrainedTokenizerFast, StoppingCriteria
from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil

from benchmarks.clock import Clock, Mark
from benchmarks.subjects.base import Answer, Subject
from benchmarks.workload import Request

_IMAGE = "<|image|>"


class _Marks(StoppingCriteria):
    """Called once per new token; never stops."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.marks: list[Mark] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        del scores
        self.marks.append(self.clock())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)


class Transformers(Subject):
    """``generate()`` in f32 with the default (sdpa) attention."""

    def load(self, checkpoint: Path, threads: int, cache: Path) -> dict[str, str]:
        del cache
        torch.set_num_threads(threads)
        self._tokenizer = PreTrainedTokenizerFast.from_pretrained(checkpoint, padding_side="left")
        self._images = Glm4vImageProcessorPil.from_pretrained(checkpoint)
        model: Any = Glm4vForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)
        self._model = model.eval()
        # No end-of-sequence id at all: `min_new_tokens` would mask the id instead of generating past it.
        self._model.generation_config.eos_token_id = None
        return {"transformers": transformers.__version__, "torch": torch.__version__}

    def forget(self) -> None:
        """Nothing is kept between calls."""

    def run(self, requests: Sequence[Request], clock: Clock) -> list[Answer]:
        new_tokens = requests[0].new_tokens
        if any(r.new_tokens != new_tokens for r in requests):
            raise ValueError("a static batch generates the same number of tokens for every request")
        marks = _Marks(clock)
        with torch.inference_mode():
            inputs = self._inputs(requests)
            output = self._model.generate(
                **inputs, max_new_tokens=new_tokens, do_sample=False, stopping_criteria=[marks]
            )
        width = inputs["input_ids"].shape[1]
        lengths = inputs["attention_mask"].sum(1).tolist()
        return [
            Answer(prompt_tokens=length, cached_tokens=0, tokens=row[width:].tolist(), marks=list(marks.marks))
            for length, row in zip(lengths, output, strict=True)
        ]

    def _inputs(self, requests: Sequence[Request]) -> dict[str, torch.Tensor]:
        images = [Image.open(io.BytesIO(data)).convert("RGB") for r in requests for data in r.images]
        texts = [r.text for r in requests]
        pixels: dict[str, torch.Tensor] = {}
        if images:
            pixels = dict(self._images(images=images, return_tensors="pt"))
            counts = iter((pixels["image_grid_thw"].prod(-1) // self._images.merge_size**2).tolist())
            texts = [_expand(text, counts) for text in texts]
        inputs = self._tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        ids = inputs["input_ids"]
        image_id = self._tokenizer.convert_tokens_to_ids(_IMAGE)
        return {
            "input_ids": ids,
            "attention_mask": inputs["attention_mask"],
            "mm_token_type_ids": (ids == image_id).int(),
            **pixels,
        }


def _expand(text: str, counts: Any) -> str:
    head, *rest = text.split(_IMAGE)
    return head + "".join(_IMAGE * next(counts) + part for part in rest)
