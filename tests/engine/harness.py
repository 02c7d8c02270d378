"""Run an engine to the end, ask the reference, draw screens."""

from __future__ import annotations

import io
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from autoglm.engine import Engine, EngineConfig
from autoglm.messages import (
    ChatMessage,
    Event,
    Failed,
    Finish,
    ImagePart,
    Output,
    SamplingParams,
    Submit,
    TextPart,
    TokenLogprob,
)
from autoglm.prompt import Prompt

GREEDY = SamplingParams(temperature=0.0, max_tokens=12)
COLD: dict[str, Any] = {"prefix_caching": False, "visual_cache_bytes": 0, "image_cache_bytes": 0}


def engine_of(checkpoint: Path, **changes: Any) -> Engine:
    """A small engine that walks its caches when idle."""
    options: dict[str, Any] = {"kv_cache_bytes": 16 * 2**20, "threads": 1} | changes
    return Engine.from_checkpoint(checkpoint, EngineConfig(**options))


def screen(seed: int, width: int = 112, height: int = 168) -> bytes:
    """A PNG screen; another seed is another picture of the same size."""
    draw = random.Random(seed)
    image = Image.new("RGBA", (width, height), tuple(draw.randrange(256) for _ in range(3)))
    for _ in range(12):
        box = (draw.randrange(width - 8), draw.randrange(height - 8))
        patch = Image.new(
            "RGBA", (draw.randrange(8, 60), draw.randrange(8, 60)), tuple(draw.randrange(256) for _ in range(3))
        )
        image.paste(patch, box)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def user(*parts: str | bytes) -> ChatMessage:
    """A user turn of texts and images."""
    return ChatMessage("user", [TextPart(p) if isinstance(p, str) else ImagePart(p) for p in parts])


@dataclass
class Result:
    """One finished choice."""

    tokens: list[int] = field(default_factory=list)
    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish: Finish | None = None
    failed: Failed | None = None

    @property
    def cached(self) -> int:
        assert self.finish is not None
        return self.finish.usage.cached_tokens


class Driver:
    """Feeds an engine and collects what it says, by (id, index)."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.results: dict[tuple[str, int], Result] = {}
        self.ids = 0

    def submit(self, messages: list[ChatMessage], sampling: SamplingParams = GREEDY, **options: Any) -> str:
        """Queue; returns the id."""
        self.ids += 1
        request_id = str(self.ids)
        self.engine.submit(Submit(id=request_id, messages=messages, sampling=sampling, **options))
        return request_id

    def step(self) -> list[Event]:
        """One engine step, waiting for prompt workers if need be."""
        while self.engine.has_work and not self.engine.can_step:
            time.sleep(0.0005)
        events = self.engine.step()
        for event in events:
            if isinstance(event, Failed):
                self.results[event.id, 0] = Result(failed=event)
            if isinstance(event, Output):
                result = self.results.setdefault((event.id, event.index), Result())
                result.tokens += event.token_ids
                result.text += event.text
                result.logprobs += event.logprobs or []
                result.finish = event.finish
        return events

    def drain(self) -> None:
        """Until idle; then everything must be in order."""
        while self.engine.has_work:
            self.step()
        self.engine.check_integrity()

    def ask(self, messages: list[ChatMessage], sampling: SamplingParams = GREEDY, **options: Any) -> Result:
        """One request, to its end."""
        request_id = self.submit(messages, sampling, **options)
        self.drain()
        return self.results[request_id, 0]


def reference_tokens(reference: Any, prompt: Prompt, count: int) -> list[int]:
    """Greedy tokens of the reference implementation on the very same prompt."""
    ids = torch.tensor([prompt.token_ids])
    images: dict[str, Any] = {}
    if prompt.images:
        images = {
            "pixel_values": torch.cat([torch.from_numpy(p.image.pixels) for p in prompt.images]),
            "image_grid_thw": torch.tensor([p.image.grid for p in prompt.images]),
            "mm_token_type_ids": (ids == reference.config.image_token_id).long(),
        }
    with torch.inference_mode():
        out = reference.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, **images
        )
    tokens: list[int] = out[0, len(prompt.token_ids) :].tolist()
    return tokens
