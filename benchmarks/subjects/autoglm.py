"""This project's engine, in process: `Engine.step()` in a loop, as the engine process runs it.

Raw text becomes a prompt with the engine's own tokenizer and image pipeline; the chat template takes no part, for
any subject.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import autoglm
from autoglm.engine import Engine, EngineConfig
from autoglm.messages import Accepted, Failed, Output, SamplingParams
from autoglm.prompt import PlacedImage, Prompt
from benchmarks.clock import Clock
from benchmarks.subjects.base import Answer, Subject
from benchmarks.workload import Request


class AutoGLM(Subject):
    """Default engine options in f32; prefix and feature caches work within a dialogue.

    The memory of decoded image files is off: no case sends a file twice, but repetitions do. Speculation is off: the
    peers do not draft, and random weights repeat themselves (``speculation.py`` measures it).
    """

    options: Mapping[str, Any] = {}

    def load(self, checkpoint: Path, threads: int, cache: Path) -> dict[str, str]:
        os.environ["AUTOGLM_CACHE_DIR"] = str(cache / "autoglm")
        config = EngineConfig(
            device="cpu", dtype="float32", threads=threads, image_cache_bytes=0, speculation=False, **self.options
        )
        self._engine = Engine.from_checkpoint(checkpoint, config)
        self._ids = map(str, count())
        self._salt = ""
        return {"autoglm": autoglm.__version__}

    def forget(self) -> None:
        """A new salt: KV prefixes and visual features kept under another one are never found."""
        self._salt = f"repetition {next(self._ids)}"

    def run(self, requests: Sequence[Request], clock: Clock) -> list[Answer]:
        answers: dict[str, Answer] = {}
        for request in requests:
            name = next(self._ids)
            answers[name] = Answer()
            sampling = SamplingParams(max_tokens=request.new_tokens, temperature=0.0, ignore_eos=True)
            self._engine.submit_prompt(name, self._prompt(request), sampling, salt=self._salt)
        while self._engine.has_work:
            for event in self._engine.step():
                if isinstance(event, Failed):
                    raise RuntimeError(event.error.message)
                if isinstance(event, Accepted):
                    answers[event.id].prompt_tokens = event.prompt_tokens
                elif isinstance(event, Output):
                    answer = answers[event.id]
                    answer.tokens += event.token_ids
                    answer.marks += [clock()] * len(event.token_ids)
                    if event.finish is not None:
                        answer.cached_tokens = event.finish.usage.cached_tokens
        return list(answers.values())

    def _prompt(self, request: Request) -> Prompt:
        builder = self._engine.prompts
        images = iter([builder.images.process(data) for data in request.images])
        placeholder = builder.image_token_ids.image
        token_ids: list[int] = []
        placed: list[PlacedImage] = []
        for token in builder.tokenizer.encode(request.text):
            if token != placeholder:
                token_ids.append(token)
                continue
            image = next(images)
            placed.append(PlacedImage(image=image, start=len(token_ids)))
            token_ids += [placeholder] * image.num_tokens
        return Prompt(token_ids=token_ids, images=tuple(placed))


class AutoGLMTorch(AutoGLM):
    """Decoding on torch instead of the kernels."""

    options: Mapping[str, Any] = {"native_decode": False}


class AutoGLMInt8(AutoGLM):
    """8-bit weights in the decoder, one scale a row."""

    options: Mapping[str, Any] = {"quantization": "int8"}


class AutoGLMInt4(AutoGLM):
    """4-bit weights in the decoder, groups of 32; 8-bit head."""

    options: Mapping[str, Any] = {"quantization": "int4"}
