"""The whole layout against a naive float64 model, its mask rule, its gates and its two streams."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autoglm.model.autoglm_phone.fusion import VisualPlan
from autoglm.model.context import KVStore, VisualSpan
from tests.model.autoglm_phone import naive
from tests.model.autoglm_phone.models import CPU, IMAGE, USER, Case, random_pixels, run, step_context, tiny_model

MODEL = tiny_model()
SLOTS = 512
PIXELS, GRIDS = random_pixels(3)
with torch.inference_mode():
    FEATURES = MODEL.encode_images(PIXELS, GRIDS)


def text(count: int, seed: int) -> list[int]:
    return torch.randint(0, USER, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def case(layout: list[int | str], slots: Tensor, seed: int = 0, contiguous: bool = False) -> Case:
    """``layout``: lengths of text runs, ``"user"``, and ``"image"`` for the next of the three images."""
    ids: list[int] = []
    images = 0
    for number, part in enumerate(layout):
        if isinstance(part, int):
            ids += text(part, seed * 100 + number)
        else:
            ids.append(USER if part == "user" else IMAGE)
            images += part == "image"
    return Case(ids, list(FEATURES[:images]), slots[: len(ids)], contiguous)


def expected(one: Case) -> Tensor:
    """Logits of the naive model on one case."""
    weights, vision = naive.weights_of(MODEL), MODEL.config.vision
    shape = (vision.num_heads, vision.depth, vision.patch_size)
    count = len(one.features)
    visual = [naive.vision(weights, PIXELS[i], *GRIDS[i][1:], *shape) for i in range(count)]
    turn, image, turns, images = 0, 0, [], {}
    for token in one.ids:
        turn += token == USER
        turns.append(turn)
        if token == IMAGE:
            images.setdefault(turn, []).append(image)
            image += 1
    return naive.decode(MODEL, one.ids, visual, [images.get(t, []) if count else [] for t in turns])


def fresh_kv() -> KVStore:
    return KVStore(MODEL.kv_spec, SLOTS, CPU)


@pytest.mark.parametrize(
    "layout",
    [
        [7],
        ["user", "image", 5],
        [2, "user", 3, "user", "image", "image", 4, "user", 3],
        ["user", "image", 3, "user", 2, "user", "image", "image", 4],
    ],
)
@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_agrees_with_the_naive_model(layout: list[int | str], chunk: int) -> None:
    one = case(layout, torch.arange(5, 100), contiguous=chunk == 3)
    (ours,) = run(MODEL, [one], chunk, fresh_kv())
    torch.testing.assert_close(ours.double(), expected(one), atol=1e-4, rtol=1e-4)


@settings(derandomize=True, deadline=None, max_examples=12)
@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from(["user", "image", 1, 4]), min_size=1, max_size=7), st.booleans()),
        min_size=2,
        max_size=4,
    ),
    st.integers(1, 9),
)
def test_mixed_batches_agree_with_the_naive_model(drawn: list[tuple[list[int | str], bool]], chunk: int) -> None:
    cases = []
    shuffled = torch.randperm(200, generator=torch.Generator().manual_seed(chunk)) + 200
    for number, (layout, contiguous) in enumerate(drawn):
        kept = [part for i, part in enumerate(layout) if part != "image" or layout[: i + 1].count("image") <= 3]
        slots = torch.arange(number * 40, number * 40 + 40) if contiguous else shuffled[number * 40 :][:40]
        cases.append(case(kept, slots, number, contiguous))
    for ours, one in zip(run(MODEL, cases, chunk, fresh_kv()), cases, strict=True):
        torch.testing.assert_close(ours.double(), expected(one), atol=1e-4, rtol=1e-4)


def test_closed_gates_leave_the_text_model_unchanged() -> None:
    closed = tiny_model(gate=None)
    assert all(float(module.gate) == 0.0 for module in closed.cross_attention)
    seeing = case(["user", "image", "image", 6], torch.arange(40))
    blind = Case(seeing.ids, [], seeing.slots)
    for chunk in (1, 4, 64):
        with_image, without = (run(closed, [c], chunk, fresh_kv())[0] for c in (seeing, blind))
        assert torch.equal(with_image, without)
        opened = run(MODEL, [seeing], chunk, fresh_kv())[0] - run(MODEL, [blind], chunk, fresh_kv())[0]
        assert opened.abs().max() > 0.1


def test_text_before_an_image_has_the_text_models_kv() -> None:
    seeing = case([3, "user", 5, "user", "image", 4], torch.arange(40))
    first = seeing.ids.index(IMAGE) - 1  # the image's turn starts with <|user|>
    with_image, without = fresh_kv(), fresh_kv()
    run(MODEL, [seeing], 64, with_image)
    run(MODEL, [Case(seeing.ids, [], seeing.slots)], 64, without)
    for ours, theirs in ((with_image.keys, without.keys), (with_image.values, without.values)):
        assert torch.equal(ours[:, :, :first], theirs[:, :, :first])
        shallow = MODEL.config.fusion.layers[0] + 1  # its keys and values are made before it reads the image
        assert torch.equal(ours[:shallow, :, : len(seeing.ids)], theirs[:shallow, :, : len(seeing.ids)])
        assert not torch.equal(ours[shallow:, :, first : len(seeing.ids)], theirs[shallow:, :, first : len(seeing.ids)])


def test_features_do_not_depend_on_what_is_encoded_beside_them() -> None:
    for index, features in enumerate(FEATURES):
        with torch.inference_mode():
            (alone,) = MODEL.encode_images([PIXELS[index]], [GRIDS[index]])
        assert all(torch.equal(a, b) for a, b in zip(alone.tensors, features.tensors, strict=True))


@pytest.mark.parametrize("parallel", [True, False])
def test_two_streams_join_to_the_same_result(parallel: bool) -> None:
    one = case(["user", "image", 6], torch.arange(40))
    parts = [(one, 0, len(one.ids))]
    with torch.inference_mode():
        hidden = MODEL.embed_tokens(torch.tensor(one.ids))
        whole = MODEL.forward(hidden, step_context(MODEL, parts, fresh_kv()))
        context = step_context(MODEL, parts, fresh_kv())
        spans = list(context.visual)
        context.visual.clear()  # nothing of the image is known while the streams run
        features, stream = MODEL.encode_dual(PIXELS[:1], GRIDS[:1], hidden, context, parallel=parallel)
        assert features[0].tensors[0].is_inference()
        assert all(torch.equal(a, b) for a, b in zip(features[0].tensors, FEATURES[0].tensors, strict=True))
        context.visual.extend(spans)
        assert torch.equal(MODEL.join(stream, context), whole)


def test_an_error_in_a_stream_reaches_the_caller() -> None:
    one = case(["user", "image", 6], torch.arange(40))
    context = step_context(MODEL, [(one, 0, len(one.ids))], fresh_kv())
    hidden = MODEL.embed_tokens(torch.tensor(one.ids))
    with pytest.raises(Exception, match="do not fit the grid"):
        MODEL.encode_dual([torch.zeros(3, 2, 2)], GRIDS[:1], hidden, context)
    with pytest.raises(RuntimeError):
        MODEL.encode_dual(PIXELS[:1], GRIDS[:1], hidden[:, :3], context)


def test_overlapping_spans_are_refused() -> None:
    one = case(["user", "image", 6], torch.arange(40))
    context = step_context(MODEL, [(one, 0, len(one.ids))], fresh_kv())
    context.visual.append(context.visual[0])
    with pytest.raises(ValueError, match="overlap"):
        MODEL.forward(MODEL.embed_tokens(torch.tensor(one.ids)), context)


def test_training_reaches_every_weight_of_the_image_path() -> None:
    model = tiny_model().requires_grad_(True)
    (features,) = model.encode_images(PIXELS[:1], GRIDS[:1])
    hidden = torch.randn(5, model.config.text.hidden_size, generator=torch.Generator().manual_seed(0))
    plan = VisualPlan.of(hidden, [VisualSpan(1, 4, (features,))], model.time_gate)
    assert plan is not None
    out = hidden
    for index, module in enumerate(model.cross_attention):
        out = module(out, plan, index)
    assert torch.equal(out[[0, 4]], hidden[[0, 4]])
    out.square().sum().backward()
    parts = [model.visual, model.time_gate, *model.cross_attention]
    named = [(name, p) for part in parts for name, p in part.named_parameters()]
    assert [name for name, p in named if p.grad is None or not p.grad.abs().sum() > 0] == []
