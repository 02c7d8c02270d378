"""The library's face on tiny checkpoints of both layouts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import autoglm
from autoglm.errors import CheckpointNotFoundError, InvalidInputError, PromptTooLongError
from autoglm.library import AutoGLMPhone, EncodedImage
from autoglm.library.images import checked_images, prepare
from autoglm.model.autoglm_phone.synthetic import write_phone_weights
from autoglm.model.context import ForwardContext, KVStore, SequenceSlice, VisualSpan
from autoglm.model.registry import build_model
from autoglm.model.synthetic import synthetic_config, write_weights
from autoglm.prompt import Glm4vImageProcessor, ImageOptions, PhoneImageProcessor

NAMES = ("<|image|>", "<|video|>", "<|system|>", "<|user|>", "<|observation|>", "<|begin_of_image|>")
MORE = ("<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>")
IDS = {name: 8150 + i for i, name in enumerate((*NAMES, *MORE))}
IMAGE, USER, STOP = IDS["<|image|>"], IDS["<|user|>"], 8129


def picture(seed: int, height: int = 56, width: int = 84) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def text(count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 8000, (count,), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def phone_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("phone")
    write_phone_weights(path, seed=5, token_ids=IDS, stop_token_ids=[STOP], context=256)
    return path


@pytest.fixture(scope="module")
def phone(phone_path: Path) -> AutoGLMPhone:
    return AutoGLMPhone.from_pretrained(phone_path, dtype="float32")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> AutoGLMPhone:
    path = tmp_path_factory.mktemp("published")
    write_weights(path, synthetic_config("tiny", IDS, [STOP]), seed=2)
    return AutoGLMPhone.from_pretrained(str(path), dtype=torch.float32)


def one(encoded: EncodedImage | list[EncodedImage]) -> EncodedImage:
    assert isinstance(encoded, EncodedImage)
    return encoded


def several(encoded: EncodedImage | list[EncodedImage]) -> list[EncodedImage]:
    assert isinstance(encoded, list)
    return encoded


@torch.inference_mode()
def recomputed(model: AutoGLMPhone, ids: list[int], images: list[EncodedImage], count: int) -> list[int]:
    """Greedy ids by a full pass over the whole sequence for each token; no state is kept."""
    layout, new = model.model, []
    starts = [i for i, t in enumerate(ids) if t == IMAGE]
    for _ in range(count):
        sequence = [*ids, *new]
        hidden = layout.embed_tokens(torch.tensor(sequence))
        places, spans = [], []
        if layout.image_in_sequence:
            used = 0
            for image in images:
                hidden[starts[used] : starts[used] + image.num_tokens] = image.features.tensors[0]
                places.append((starts[used], image.grid))
                used += image.num_tokens
        else:
            features = tuple(image.features for image in images)
            for start, end, seen in layout.visible_spans(ids, starts):
                spans.append(VisualSpan(start, len(sequence) if end is None else end, tuple(features[i] for i in seen)))
            if images and not starts:
                spans = [VisualSpan(0, len(sequence), features)]
        positions, _ = layout.rope_positions(len(sequence), places)
        kv = KVStore(layout.kv_spec, len(sequence), layout.device)
        whole = [SequenceSlice(0, len(sequence), len(sequence), None, 0)]
        context = ForwardContext(positions, torch.arange(len(sequence)), whole, kv, spans)
        new.append(int(layout.compute_logits(layout.forward(hidden, context)[-1:]).argmax()))
        if new[-1] in layout.stop_token_ids:
            return new[:-1]
    return new


def test_import_is_cheap_and_the_class_is_reachable() -> None:
    code = "import sys, autoglm; assert 'torch' not in sys.modules; assert 'AutoGLMPhone' in autoglm.__all__"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert autoglm.AutoGLMPhone is AutoGLMPhone
    with pytest.raises(AttributeError):
        _ = autoglm.Nothing  # type: ignore[attr-defined]


def test_phone_text_image_and_dialogue(phone: AutoGLMPhone) -> None:
    first, second = several(phone.encode_image(torch.stack([picture(1), picture(2)])))
    alone = one(phone.encode_image(picture(1)))
    assert all(torch.equal(a, b) for a, b in zip(first.features.tensors, alone.features.tensors, strict=True))
    plain = text(7)
    turns = torch.cat([torch.tensor([USER]), text(3, 1), torch.tensor([USER, IMAGE, IMAGE]), text(4, 2)])
    for ids, images in ((plain, []), (plain, [first]), (turns, [first, second])):
        new = phone.generate(images or None, ids, max_new_tokens=9)
        assert new.dtype == torch.int64
        assert new.tolist() == recomputed(phone, ids.tolist(), images, 9)
        from_embeddings = phone.generate(image_features=images, input_ids=phone.encode_text(ids), max_new_tokens=9)
        assert torch.equal(from_embeddings, new)
    answers = {tuple(phone.generate(image, plain, 9).tolist()) for image in (None, first, second)}
    assert len(answers) == 3


def test_published_text_images_and_embeddings(published: AutoGLMPhone) -> None:
    images = several(published.encode_image(torch.stack([picture(1), picture(2)])))
    assert published.model.image_in_sequence
    run = torch.full((images[0].num_tokens,), IMAGE)
    with_two = torch.cat([text(3), run, text(2, 1), run, text(4, 2)])
    for ids, seen in ((text(6), []), (with_two, images)):
        new = published.generate(seen, ids, max_new_tokens=6)
        assert new.tolist() == recomputed(published, ids.tolist(), seen, 6)
        assert torch.equal(published.generate(seen, published.encode_text(ids), 6), new)


def test_batches_equal_single_rows(phone: AutoGLMPhone, published: AutoGLMPhone) -> None:
    ids = torch.stack([text(6, seed) for seed in range(3)])
    images = several(phone.encode_image(torch.stack([picture(s) for s in range(2)])))
    rows: list[Any] = [images[0], None, [images[1], images[0]]]
    together = phone.generate(rows, ids, 8)
    assert together.shape[0] == 3
    for row, new in zip(range(3), together.tolist(), strict=True):
        single = phone.generate(rows[row], ids[row], 8).tolist()
        assert new == single + [STOP] * (len(new) - len(single))
    assert torch.equal(phone.generate(images[0], ids, 4)[1], phone.generate(images[0], ids[1], 4))
    assert published.generate(None, ids, 3).shape == (3, 3)


def test_stops_at_the_stop_id(phone_path: Path, phone: AutoGLMPhone) -> None:
    expected = phone.generate(None, text(5), 6).tolist()
    at = next(i for i in range(1, 6) if expected[i] not in expected[:i])
    stopping = AutoGLMPhone.from_pretrained(phone_path, dtype="float32")
    object.__setattr__(stopping.model.config, "stop_token_ids", (expected[at],))
    assert stopping.generate(None, text(5), 6).tolist() == expected[:at]


def test_context_is_the_limit(phone: AutoGLMPhone) -> None:
    assert phone.generate(None, text(250), 100).shape[0] <= 6
    with pytest.raises(PromptTooLongError):
        phone.generate(None, text(256), 1)


def test_sampling_is_seeded(phone: AutoGLMPhone) -> None:
    draws = [phone.generate(None, text(5), 12, temperature=2.0, seed=s).tolist() for s in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_from_config(phone: AutoGLMPhone) -> None:
    config = phone.model.config
    first, again, other = (AutoGLMPhone.from_config(config, seed=s) for s in (1, 1, 2))  # type: ignore[arg-type]
    assert torch.equal(first.model.lm_head.weight, again.model.lm_head.weight)
    assert not torch.equal(first.model.lm_head.weight, other.model.lm_head.weight)
    image = one(first.encode_image(picture(1)))
    assert torch.equal(first.generate(image, text(5), 5), first.generate(None, text(5), 5))  # gates are closed
    published = AutoGLMPhone.from_config(synthetic_config("tiny", IDS, [STOP]), dtype="bfloat16")
    assert published.generate(None, text(4), 2).shape == (2,)


def test_a_missing_checkpoint_says_where_it_looked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AUTOGLM_MODEL_DIR", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointNotFoundError) as caught:
        AutoGLMPhone.from_pretrained("no-such-model")
    assert str(tmp_path) in caught.value.message
    assert "AUTOGLM_MODEL_DIR" in caught.value.message


BAD_IMAGES: list[tuple[Any, str]] = [
    (np.zeros((3, 4, 4)), "ndarray"),
    (torch.zeros(4, 4), "shape"),
    (torch.zeros(1, 4, 4), "shape"),
    (torch.zeros(3, 0, 4), "shape"),
    (torch.zeros(0, 3, 4, 4), "shape"),
    (torch.zeros(3, 4, 4, dtype=torch.int64), "int64"),
    (torch.full((3, 4, 4), 255.0), "divide by 255"),
    (torch.full((3, 4, 4), float("nan")), "nan"),
    (torch.full((3, 4, 4), -0.5), "0..1"),
]


@pytest.mark.parametrize(("image", "words"), BAD_IMAGES)
def test_bad_images_are_named(phone: AutoGLMPhone, image: Any, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words) as caught:
        phone.encode_image(image)
    assert caught.value.field == "image_tensor"


BAD_IDS: list[Any] = [
    None,
    [1, 2],
    torch.zeros(0, dtype=torch.int64),
    torch.zeros(1, 1, 1, dtype=torch.int64),
    torch.tensor([True]),
    torch.tensor([-1]),
    torch.tensor([8192]),
    torch.zeros(4, 5),
    torch.tensor([IMAGE, 3]),
]


@pytest.mark.parametrize("ids", BAD_IDS)
def test_bad_ids_are_named(phone: AutoGLMPhone, published: AutoGLMPhone, ids: Any) -> None:
    for model in (phone, published):
        with pytest.raises(InvalidInputError) as caught:
            model.generate(None, ids)
        assert caught.value.field == "input_ids"
    if ids is not None and not (isinstance(ids, Tensor) and IMAGE in ids.tolist()):
        with pytest.raises(InvalidInputError) as caught:
            phone.encode_text(ids)
        assert caught.value.field == "text_tokens"


def test_other_bad_arguments_are_named(phone: AutoGLMPhone, published: AutoGLMPhone, phone_path: Path) -> None:
    image = one(published.encode_image(picture(1)))
    half = torch.full((image.num_tokens - 1,), IMAGE)
    apart = torch.cat([half, text(1), torch.tensor([IMAGE])])
    calls: list[tuple[str, Any]] = [
        ("input_ids", lambda: published.generate(image, half)),
        ("input_ids", lambda: published.generate(image, text(4))),
        ("input_ids", lambda: published.generate(image, apart)),
        ("image_features", lambda: phone.generate(picture(1), text(4))),  # type: ignore[arg-type]
        ("image_features", lambda: phone.generate([image.features], text(4))),  # type: ignore[list-item]
        ("image_features", lambda: phone.generate([image], text(4).view(2, 2))),
        ("max_new_tokens", lambda: phone.generate(None, text(4), 0)),
        ("max_new_tokens", lambda: phone.generate(None, text(4), 2.5)),  # type: ignore[arg-type]
        ("temperature", lambda: phone.generate(None, text(4), 1, temperature=float("nan"))),
        ("dtype", lambda: AutoGLMPhone.from_pretrained(phone_path, dtype="int8")),
    ]
    for field, call in calls:
        with pytest.raises(InvalidInputError) as caught:
            call()
        assert caught.value.field == field


@pytest.mark.parametrize("size", [(224, 224), (300, 140), (56, 84)])
def test_pixels_are_close_to_the_servers(size: tuple[int, int]) -> None:
    generator = np.random.default_rng(1)
    small = generator.integers(0, 256, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
    pixels = np.repeat(np.repeat(small, 8, 0), 8, 1)
    image = checked_images(torch.from_numpy(pixels.copy()).permute(2, 0, 1))[0]
    options = ImageOptions()
    with torch.device("meta"):
        glm4v = build_model(synthetic_config("tiny", IDS, [STOP]))
    theirs = Glm4vImageProcessor(options).process(pixels)
    ours, grid = prepare(image, glm4v, options)
    assert grid == theirs.grid
    assert (ours - torch.from_numpy(theirs.pixels)).abs().mean() < 0.01


def test_phone_pixels_are_close_to_the_servers(phone: AutoGLMPhone) -> None:
    pixels = np.kron(np.random.default_rng(2).integers(0, 256, (30, 14, 3)), np.ones((10, 10, 1))).astype(np.uint8)
    theirs = PhoneImageProcessor(ImageOptions()).process(pixels)
    image = checked_images(torch.from_numpy(pixels).permute(2, 0, 1))[0]
    ours, grid = prepare(image, phone.model, phone.image_options)
    assert grid == theirs.grid == (1, 36, 16)
    assert (ours - torch.from_numpy(theirs.pixels)).abs().mean() < 0.01
