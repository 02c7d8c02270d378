"""A model in stages computes what the whole one computes, and each stage holds its own weights only."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autoglm.model.autoglm_phone import AutoGLMPhoneModel
from autoglm.model.context import ForwardContext, ImageFeatures, KVStore, SequenceSlice, VisualSpan
from autoglm.model.loading import load_checkpoint
from autoglm.model.registry import Model
from autoglm.model.stage import Activation, StageModel, Widths, cut, vision_before
from autoglm.parallel.pipeline.partition import Partition, Stage
from autoglm.synthetic import make_checkpoint, make_phone_checkpoint

ROWS, EARLIER = 20, 7
PARTITIONS = [
    Partition((0, *cuts), 4, vision)
    for stages in (2, 3, 4)
    for cuts in combinations(range(1, 4), stages - 1)
    for vision in range(stages)
]


@pytest.fixture(scope="module", params=["glm4v", "autoglm_phone"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("stages")
    return make_phone_checkpoint(directory) if request.param == "autoglm_phone" else make_checkpoint(directory)


def load_stage(path: Path, stage: Stage) -> Model:
    return load_checkpoint(path, dtype=torch.float32, prepare=partial(cut, stage=stage))


def pixels_of(model: Model) -> tuple[Tensor, tuple[int, int, int]]:
    generator = torch.Generator().manual_seed(1)
    if isinstance(model, AutoGLMPhoneModel):
        return torch.randn(3, 24 * 14, 24 * 14, generator=generator), (1, 24, 24)
    return torch.randn(4 * 4, 1176, generator=generator), (1, 4, 4)


def chunk(kv: KVStore, start: int, end: int, wanted: list[int], features: ImageFeatures | None) -> ForwardContext:
    """Tokens ``[start, end)`` of one sequence; the last two thirds of its rows see the image, if there is one."""
    slots = torch.arange(end)
    spans = [] if features is None else [VisualSpan((end - start) // 3, end - start, (features,))]
    return ForwardContext(
        slots[start:].expand(3, -1), slots[start:], [SequenceSlice(0, end - start, end, slots, 0)], kv, spans,
        torch.tensor(wanted),
    )  # fmt: skip


def whole(model: Model, ids: Tensor) -> list[Tensor]:
    """Logits of two chunks, the second with an image."""
    kv = KVStore(model.kv_spec, ROWS, model.device)
    pixels, grid = pixels_of(model)
    features = model.encode_images([pixels], [grid])[0]
    found = []
    for start, end in ((0, EARLIER), (EARLIER, ROWS)):
        hidden = model.embed_tokens(ids[start:end])
        seen = features if start and not model.image_in_sequence else None
        if start and model.image_in_sequence:
            hidden[:4] = features.tensors[0]
        context = chunk(kv, start, end, [0, end - start - 1], seen)
        found.append(model.compute_logits(model.forward(hidden, context)))
    return found


def staged(path: Path, partition: Partition, ids: Tensor) -> list[Tensor]:
    """The same, one stage after the other, each message packed and unpacked."""
    stages = [StageModel(load_stage(path, s), s) for s in partition.stages()]
    stores = [KVStore(stage.model.kv_spec, ROWS, stage.model.device) for stage in stages]
    found = []
    for start, end in ((0, EARLIER), (EARLIER, ROWS)):
        rows, images, seeing = end - start, int(start > 0), 0
        if start and not stages[0].model.image_in_sequence:
            seeing = rows - rows // 3
        activation = Activation(stages[0].model.embed_tokens(ids[start:end]), None, [])
        for stage, kv in zip(stages, stores, strict=True):
            activation, logits = advance(stage, kv, activation, (start, end), images, seeing)
            if stage.stage.is_last:
                found.append(logits)
                break
            widths = Widths.after(stage.model, stage.stage, partition.vision)
            message = widths.pack(activation)
            assert message.numel() == widths.numbers(rows, seeing, images)
            activation = widths.unpack(message, rows, seeing, images)
    return found


def advance(
    stage: StageModel, kv: KVStore, before: Activation, span: tuple[int, int], images: int, seeing: int
) -> tuple[Activation, Tensor]:
    start, end = span
    visual = before.visual
    features = None
    if images:
        if stage.stage.vision:
            pixels, grid = pixels_of(stage.model)
            visual = stage.encode([pixels], [grid])
        if stage.reads_images:
            features = stage.absorb(visual[0])
    hidden = before.hidden
    if features is not None and stage.model.image_in_sequence:
        hidden[:4] = features.tensors[0]
    seen = features if seeing else None
    hidden, queries = stage.run(hidden, before.queries, chunk(kv, start, end, [0, end - start - 1], seen))
    logits = stage.model.compute_logits(hidden) if stage.stage.is_last else hidden
    return Activation(hidden, queries, visual), logits


@torch.inference_mode()
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_stages_compute_what_the_whole_computes(checkpoint: Path, data: st.DataObject) -> None:
    model = load_checkpoint(checkpoint, dtype=torch.float32)
    allowed = [p for p in PARTITIONS if p.stage(p.vision).first <= vision_before(model)]
    partition = data.draw(st.sampled_from(allowed))
    ids = torch.tensor(data.draw(st.lists(st.integers(0, 8000), min_size=ROWS, max_size=ROWS)))
    for expected, found in zip(whole(model, ids), staged(checkpoint, partition, ids), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_stage_holds_its_own_weights_only(checkpoint: Path) -> None:
    model = load_checkpoint(checkpoint)
    every = {name for name, _ in model.named_parameters()}
    vision = 0 if model.image_in_sequence else 1
    held = [
        {name for name, _ in load_stage(checkpoint, stage).named_parameters()}
        for stage in Partition((0, 2), 4, vision).stages()
    ]
    assert held[0] | held[1] == every
    assert not held[0] & held[1]
    assert any(name.startswith("model.visual.") for name in held[vision])
    with pytest.raises(NotImplementedError):
        load_stage(checkpoint, Stage(0, 2, 0, 2, vision=False, largest=2)).lm_head(torch.zeros(1))


def test_tied_embeddings_stand_on_both_ends(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    tie(tmp_path)
    first, last = (load_stage(tmp_path, s) for s in Partition((0, 2), 4, 0).stages())
    assert torch.equal(first.decoder.embed_tokens.weight, last.lm_head.weight)


def tie(directory: Path) -> None:
    """Make the checkpoint one whose head is its embedding."""
    import json

    from safetensors.torch import load_file, save_file

    config = json.loads((directory / "config.json").read_text()) | {"tie_word_embeddings": True}
    (directory / "config.json").write_text(json.dumps(config))
    tensors = load_file(directory / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
