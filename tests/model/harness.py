"""Random prompts, and both implementations run on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autoglm.model.context import ForwardContext, KVStore, SequenceSlice
from autoglm.model.glm4v import Glm4vModel

IMAGE = 8150
Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Case:
    """A prompt with its images."""

    ids: list[int]
    starts: list[int]
    grids: list[Grid]
    pixels: list[Tensor]


def random_case(generator: torch.Generator, grids: list[Grid], texts: list[int]) -> Case:
    """Text runs of the given lengths with an image between each two."""
    ids: list[int] = []
    starts: list[int] = []
    for index, length in enumerate(texts):
        ids += torch.randint(0, 8000, (length,), generator=generator).tolist()
        if index < len(grids):
            t, h, w = grids[index]
            starts.append(len(ids))
            ids += [IMAGE] * (t * h * w // 4)
    pixels = [torch.randn(t * h * w, 1176, generator=generator) for t, h, w in grids]
    return Case(ids, starts, grids, pixels)


def reference_logits(reference: Any, case: Case) -> Tensor:
    """``[tokens, vocab]`` of the reference implementation."""
    ids = torch.tensor([case.ids])
    images: dict[str, Any] = {}
    if case.grids:
        images = {
            "pixel_values": torch.cat(case.pixels),
            "image_grid_thw": torch.tensor(case.grids),
            "mm_token_type_ids": (ids == IMAGE).long(),
        }
    with torch.inference_mode():
        out: Tensor = reference(input_ids=ids, attention_mask=torch.ones_like(ids), **images).logits[0]
    return out


@torch.inference_mode()
def our_logits(model: Glm4vModel, cases: list[Case], slots: list[Tensor], chunk: int, size: int) -> list[Tensor]:
    """``[tokens, vocab]`` of each case: all cases share every step, each advancing by ``chunk`` tokens."""
    kv = KVStore(model.kv_spec, size, torch.device("cpu"))
    hidden: list[Tensor] = []
    positions: list[Tensor] = []
    for case in cases:
        rows = model.embed_tokens(torch.tensor(case.ids))
        if case.grids:
            for start, features in zip(case.starts, model.encode_images(case.pixels, case.grids), strict=True):
                rows[start : start + features.tensors[0].shape[0]] = features.tensors[0]
        hidden.append(rows)
        positions.append(model.rope_positions(len(case.ids), list(zip(case.starts, case.grids, strict=True)))[0])
    outs: list[list[Tensor]] = [[] for _ in cases]
    for begin in range(0, max(len(c.ids) for c in cases), chunk):
        active = [i for i, c in enumerate(cases) if begin < len(c.ids)]
        slices: list[SequenceSlice] = []
        row = 0
        for i in active:
            end = min(begin + chunk, len(cases[i].ids))
            run = bool((slots[i].diff() == 1).all())
            slices.append(SequenceSlice(row, end - begin, end, slots[i][:end], int(slots[i][0]) if run else None))
            row += end - begin
        context = ForwardContext(
            torch.cat([positions[i][:, begin : begin + chunk] for i in active], dim=1),
            torch.cat([slots[i][begin : min(begin + chunk, len(cases[i].ids))] for i in active]),
            slices,
            kv,
        )
        result = model(torch.cat([hidden[i][begin : begin + chunk] for i in active]), context)
        for i, part in zip(active, torch.split(result, [s.query_len for s in slices]), strict=True):
            outs[i].append(part)
    return [model.compute_logits(torch.cat(parts)) for parts in outs]
