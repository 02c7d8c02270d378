"""The client's dialogue, and every way a message list can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import AutoTokenizer
from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil

from autoglm.errors import CheckpointNotFoundError, CorruptCheckpointError, ImageError, InvalidInputError
from autoglm.messages import ChatMessage, ImagePart, TextPart
from autoglm.prompt import PromptBuilder, PromptLimits
from autoglm.prompt.synthetic_images import encode, screenshot

PICTURE = encode(screenshot(240, 108))


def dialogue(steps: int, picture: bytes = PICTURE) -> list[ChatMessage]:
    """Step ``steps`` of the phone client: one image, in the last turn; earlier turns keep their text part."""
    system = '今天是12月11日\n<think>{think}</think>\n<answer>{action}</answer>\n- do(action="Tap")  '
    messages = [ChatMessage(role="system", content=system)]
    for step in range(steps):
        screen = json.dumps({"current_app": f"应用{step}"}, ensure_ascii=False)
        head = "打开购物应用比价" if step == 0 else "** Screen Info **"
        text = TextPart(text=f"{head}\n\n{screen}")
        if step == steps - 1:
            messages.append(ChatMessage(role="user", content=[ImagePart(data=picture), text]))
            break
        messages.append(ChatMessage(role="user", content=[text]))
        action = f'do(action="Tap", element=[{step}99,500])'
        answer = f"<think><think>先看第{step}步。</think><answer></think><answer>{action}</answer>"
        messages.append(ChatMessage(role="assistant", content=answer))
    return messages


def reference_ids(directory: Path, messages: list[ChatMessage]) -> list[int]:
    """The reference: its chat template, its grid, placeholders repeated in the text, its tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    images = [p.data for m in messages if not isinstance(m.content, str) for p in m.content if hasattr(p, "data")]
    plain = [
        {
            "role": m.role,
            "content": m.content
            if isinstance(m.content, str)
            else [
                {"type": "text", "text": p.text} if isinstance(p, TextPart) else {"type": "image"} for p in m.content
            ],
        }
        for m in messages
    ]
    text = tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True)
    pieces = text.split("<|image|>")
    assert len(pieces) == len(images) + 1
    options = json.loads((directory / "preprocessor_config.json").read_text())
    processor = Glm4vImageProcessorPil(size=options["size"])
    out = pieces[0]
    for data, piece in zip(images, pieces[1:], strict=True):
        image = Image.open(BytesIO(data)).convert("RGB")
        grid = processor(image, return_tensors="np")["image_grid_thw"][0]
        out += "<|image|>" * (int(grid.prod()) // 4) + piece
    return list(tokenizer(out, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("steps", range(1, 7))
def test_six_step_dialogue_equals_the_reference(checkpoint: Path, builder: PromptBuilder, steps: int) -> None:
    messages = dialogue(steps)
    prompt = builder.build(messages)
    assert prompt.token_ids == reference_ids(checkpoint, messages)
    (placed,) = prompt.images
    ids = builder.image_token_ids
    end = placed.start + placed.image.num_tokens
    assert set(prompt.token_ids[placed.start : end]) == {ids.image}
    assert (prompt.token_ids[placed.start - 1], prompt.token_ids[end]) == (ids.start, ids.end)


def test_history_tags_are_tokens(builder: PromptBuilder) -> None:
    ids = builder.build(dialogue(2)).token_ids
    # one in the system prompt, two in the assistant's nested history
    assert ids.count(builder.tokenizer.token_id("<think>") or -1) == 3


def test_start_up_probe(checkpoint: Path, builder: PromptBuilder) -> None:
    probe = [ChatMessage(role="user", content="Hi")]
    prompt = builder.build(probe)
    assert prompt.images == ()
    assert prompt.token_ids == reference_ids(checkpoint, probe)


def test_single_text_part_equals_string(builder: PromptBuilder) -> None:
    for role in ("system", "user", "assistant"):
        as_list = builder.build([ChatMessage(role=role, content=[TextPart(text="一二")])])
        assert as_list == builder.build([ChatMessage(role=role, content="一二")])


def test_several_images_of_several_sizes(checkpoint: Path, builder: PromptBuilder) -> None:
    pictures = [encode(screenshot(h, w, seed=h)) for h, w in ((240, 108), (100, 300), (64, 64))]
    messages = [
        ChatMessage(role="user", content=[ImagePart(data=pictures[0]), TextPart(text="a")]),
        ChatMessage(role="assistant", content="b"),
        ChatMessage(
            role="user",
            content=[
                TextPart(text="c"),
                ImagePart(data=pictures[1]),
                ImagePart(data=pictures[2]),
                TextPart(text="d"),
            ],
        ),
    ]
    prompt = builder.build(messages)
    assert prompt.token_ids == reference_ids(checkpoint, messages)
    assert [p.image.digest for p in prompt.images] == [builder.images.process(d).digest for d in pictures]
    for placed in prompt.images:
        assert prompt.token_ids[placed.start - 1] == builder.image_token_ids.start
        assert prompt.token_ids[placed.start + placed.image.num_tokens] == builder.image_token_ids.end
    with ThreadPoolExecutor(3) as pool:
        threaded = builder.build(messages, pool=pool)
    assert threaded.token_ids == prompt.token_ids
    assert [p.image.digest for p in threaded.images] == [p.image.digest for p in prompt.images]


def test_opaque_rgba_screenshot_is_the_rgb_one(builder: PromptBuilder) -> None:
    pixels = screenshot(240, 108, 4)
    pixels[..., 3] = 255
    with_alpha = builder.build(dialogue(1, encode(pixels)))
    without = builder.build(dialogue(1, encode(pixels[..., :3].copy())))
    assert with_alpha.token_ids == without.token_ids
    assert with_alpha.images[0].image.digest == without.images[0].image.digest
    np.testing.assert_array_equal(with_alpha.images[0].image.pixels, without.images[0].image.pixels)


def test_string_format_puts_images_first(checkpoint: Path) -> None:
    flat = PromptBuilder.from_checkpoint(checkpoint, "autoglm_phone", content_format="string")
    content = [TextPart(text="一"), ImagePart(data=PICTURE), TextPart(text="二"), ImagePart(data=PICTURE)]
    prompt = flat.build([ChatMessage(role="user", content=content)])
    triple = "<|begin_of_image|><|image|><|end_of_image|>"
    assert flat.tokenizer.decode(prompt.token_ids) == (
        f"[gMASK]<sop><|user|>\n{triple}\n{triple}\n一\n二<|assistant|>\n"
    )


def test_phone_layout_keeps_one_placeholder(checkpoint: Path) -> None:
    phone = PromptBuilder.from_checkpoint(checkpoint, "autoglm_phone")
    prompt = phone.build(dialogue(3))
    (placed,) = prompt.images
    assert placed.image.grid == (1, 36, 16)
    assert prompt.token_ids.count(phone.image_token_ids.image) == 1
    assert prompt.token_ids[placed.start] == phone.image_token_ids.image


@pytest.mark.parametrize("token", ["<|image|>", "<|begin_of_image|>", "<|end_of_image|>"])
@pytest.mark.parametrize("with_image", [True, False])
def test_typed_image_tokens_are_refused(builder: PromptBuilder, token: str, with_image: bool) -> None:
    parts: list[TextPart | ImagePart] = [ImagePart(data=PICTURE)] if with_image else []
    split = [TextPart(text=f"a{token[:5]}"), *parts, TextPart(text=f"{token[5:]}b")]
    for content in (f"x{token}", [*parts, TextPart(text=token)], split):
        with pytest.raises(InvalidInputError) as error:
            builder.build([ChatMessage(role="system", content="s"), ChatMessage(role="user", content=content)])
        assert error.value.field == "messages[1].content"
        assert error.value.value == token


def test_placeholders_a_template_adds_or_drops_are_refused(
    with_template: Callable[[str], PromptBuilder],
) -> None:
    adds = with_template("<|image|>{% for m in messages %}{{ m.content }}{% endfor %}")
    with pytest.raises(InvalidInputError) as error:
        adds.build([ChatMessage(role="user", content="t")])
    assert (error.value.field, error.value.limit, error.value.value) == ("messages", 0, 1)
    drops = with_template(
        "{% for m in messages %}{% for p in m.content if p.type == 'text' %}{{ p.text }}{% endfor %}{% endfor %}"
    )
    with pytest.raises(InvalidInputError) as error:
        drops.build([ChatMessage(role="user", content=[ImagePart(data=PICTURE), TextPart(text="t")])])
    assert (error.value.field, error.value.limit, error.value.value) == ("messages", 1, 0)


def test_text_a_template_would_drop_is_joined(with_template: Callable[[str], PromptBuilder]) -> None:
    builder = with_template(
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content if m.content is string else m.content[0].text }}"
        "{% endfor %}"
    )
    parts: list[TextPart | ImagePart] = [TextPart(text="one"), TextPart(text="two")]
    prompt = builder.build([ChatMessage(role="assistant", content=parts)])
    assert builder.tokenizer.decode(prompt.token_ids) == "<|assistant|>one\ntwo"
    with pytest.raises(InvalidInputError, match="no images") as error:
        builder.build([ChatMessage(role="user", content=[*parts, ImagePart(data=PICTURE)])])
    assert error.value.field == "messages[0].content"


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "messages"),
        ([ChatMessage(role="wizard", content="x")], "messages[0].role"),
        ([ChatMessage(role="", content="x")], "messages[0].role"),
        (
            [ChatMessage(role="user", content="x"), ChatMessage(role="user", content=[])],
            "messages[1].content",
        ),
        ([ChatMessage(role="user", content="a\ud800")], "messages[0].content"),
    ],
)
def test_wrong_messages(builder: PromptBuilder, messages: list[ChatMessage], field: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        builder.build(messages)
    assert error.value.field == field


def test_broken_image_names_its_place(builder: PromptBuilder) -> None:
    content = [TextPart(text="t"), ImagePart(data=PICTURE[:50])]
    with pytest.raises(ImageError) as error:
        builder.build([ChatMessage(role="system", content="s"), ChatMessage(role="user", content=content)])
    assert error.value.field == "messages[1].content[1]"
    assert error.value.message.startswith("messages[1].content[1]: ")


def test_limits_name_the_values(checkpoint: Path) -> None:
    builder = PromptBuilder.from_checkpoint(checkpoint, "glm4v", limits=PromptLimits(max_images=1, max_text_chars=10))
    with pytest.raises(InvalidInputError) as chars:
        builder.build([ChatMessage(role="user", content="123456"), ChatMessage(role="user", content="12345")])
    assert (chars.value.limit, chars.value.value) == (10, 11)
    with pytest.raises(InvalidInputError) as images:
        builder.build([ChatMessage(role="user", content=[ImagePart(data=PICTURE)] * 2)])
    assert (images.value.limit, images.value.value) == (1, 2)


def test_max_pixels_reaches_the_processor(checkpoint: Path) -> None:
    small = PromptBuilder.from_checkpoint(checkpoint, "glm4v", max_pixels=20_000)
    assert small.build(dialogue(1)).images[0].image.num_tokens * 784 * 2 <= 20_000
    with pytest.raises(InvalidInputError) as error:
        PromptBuilder.from_checkpoint(checkpoint, "autoglm_phone", max_pixels=20_000)
    assert error.value.field == "max_pixels"


def test_unknown_layout_and_format(checkpoint: Path) -> None:
    with pytest.raises(InvalidInputError) as layout:
        PromptBuilder.from_checkpoint(checkpoint, "other")  # type: ignore[arg-type]
    assert layout.value.field == "layout"
    with pytest.raises(InvalidInputError) as form:
        PromptBuilder.from_checkpoint(checkpoint, "glm4v", content_format="x")  # type: ignore[arg-type]
    assert form.value.field == "content_format"


def test_image_ids_must_be_tokens(checkpoint_copy: Path) -> None:
    path = checkpoint_copy / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({"image_token_id": config["image_token_id"]}))
    assert (
        PromptBuilder.from_checkpoint(checkpoint_copy, "glm4v").image_token_ids.start == config["image_start_token_id"]
    )
    for wrong in ({}, {"image_token_id": 10**6}, {"image_token_id": "x"}):
        path.write_text(json.dumps(wrong))
        with pytest.raises(CorruptCheckpointError) as error:
            PromptBuilder.from_checkpoint(checkpoint_copy, "glm4v")
        assert error.value.field == "image_token_id"
    path.unlink()
    with pytest.raises(CheckpointNotFoundError):
        PromptBuilder.from_checkpoint(checkpoint_copy, "glm4v")
