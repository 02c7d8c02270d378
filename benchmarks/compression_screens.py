"""Exact codecs on what really is sparse: consecutive screens of phone tasks, and the KV blocks a peer lacks."""

from __future__ import annotations

import io
import random
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from autoglm.agent.actions import Action
from autoglm.agent.devices.simulated import SimulatedPhone
from autoglm.agent.tasks.base import Task
from autoglm.agent.tasks.episodes import oracle_policy, run_episode
from autoglm.agent.tasks.splits import SPLITS
from autoglm.agent.tasks.starts import new_start
from autoglm.model.context import ForwardContext, KVStore, SequenceSlice
from autoglm.model.loading import load_checkpoint
from autoglm.parallel.codecs.blocks import decode_blocks, encode_blocks, lacking
from autoglm.parallel.codecs.screens import PATCH, Pixels, changed_patches, decode_screen, encode_screen
from autoglm.prompt import PromptBuilder

BLOCK = 16
"""Tokens of a KV block."""


@dataclass(slots=True)
class Sizes:
    """Bytes of every pair of consecutive screens in each form, and milliseconds to code and decode."""

    pixels: list[float] = field(default_factory=list)
    patches: list[float] = field(default_factory=list)
    png: list[float] = field(default_factory=list)
    coded: list[float] = field(default_factory=list)
    encode_ms: list[float] = field(default_factory=list)
    decode_ms: list[float] = field(default_factory=list)


def episode_screens(task: Task, phone: SimulatedPhone) -> list[Pixels]:
    """What the expert sees on its way through a task."""
    seen: list[Pixels] = []
    expert = oracle_policy(task)

    def look(instruction: str, shown: SimulatedPhone, app: str, last: str) -> tuple[str, Action]:
        seen.append(np.asarray(shown.render()))
        return expert(instruction, shown, app, last)

    run_episode(task, phone, look)
    return seen


def screen_sizes(episodes: int) -> Sizes:
    """Raw patches are those that changed, as pixels; PNG is of the new screen, with Pillow's best compression."""
    rng = random.Random("compression screens")
    found = Sizes()
    for _ in range(episodes):
        for old, new in pairwise(episode_screens(*new_start(rng, SPLITS["held_out_layouts"]))):
            started = time.process_time()
            message = encode_screen(new, old)
            coded = time.process_time()
            if not np.array_equal(decode_screen(message, old), new):
                raise AssertionError("a screen came back changed")
            found.decode_ms.append((time.process_time() - coded) * 1e3)
            found.encode_ms.append((coded - started) * 1e3)
            picture = io.BytesIO()
            Image.fromarray(new).save(picture, "PNG", optimize=True)
            found.pixels.append(new.nbytes)
            found.patches.append(int(changed_patches(new, old).sum()) * PATCH * PATCH * 3)
            found.png.append(len(picture.getvalue()))
            found.coded.append(len(message))
    return found


@torch.inference_mode()
def kv_sizes(path: Path, system_prompt: str, questions: tuple[str, str]) -> tuple[int, int, int]:
    """Bytes of all KV blocks of the second question, of those that a peer which has the first one's lacks, and of these
    as coded. Blocks are named by all tokens up to their end."""
    model = load_checkpoint(path, dtype=torch.float32)
    tokenizer = PromptBuilder.from_checkpoint(path, model.layout).tokenizer
    first, second = (tokenizer.encode(f"{system_prompt}\n{question}") for question in questions)
    held = set(_names(first))
    store = KVStore(model.kv_spec, len(second), model.device)
    positions, _ = model.rope_positions(len(second), [])
    rows = SequenceSlice(0, len(second), len(second), None, 0)
    model.forward(
        model.embed_tokens(torch.tensor(second)), ForwardContext(positions, torch.arange(len(second)), [rows], store)
    )
    names = _names(second)
    both = torch.stack([store.keys, store.values])[:, :, :, : len(names) * BLOCK]
    blocks = both.reshape(*both.shape[:3], len(names), BLOCK, -1).movedim(3, 0).contiguous()
    wanted = lacking(names, held)
    message = encode_blocks(blocks, wanted)
    if not torch.equal(decode_blocks(message, blocks.shape[1:], blocks.dtype), blocks[wanted]):
        raise AssertionError("KV blocks came back changed")
    return blocks.nbytes, blocks[wanted].nbytes, len(message)


def _names(ids: list[int]) -> list[bytes]:
    return [repr(ids[: end + BLOCK]).encode() for end in range(0, len(ids) - BLOCK + 1, BLOCK)]
