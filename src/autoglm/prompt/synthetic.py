"""A small tokenizer with GLM's special tokens, its chat template and image options, for tests and demos.

The vocabulary is trained on the running interpreter's own library and a little Chinese; no network, under 5
s.
"""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from autoglm.errors import InvalidInputError

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
    "<|image|>",
    "<|video|>",
    "<|begin_of_box|>",
    "<|end_of_box|>",
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "/nothink",
    "<|begin_of_audio|>",
    "<|end_of_audio|>",
)
# Added, but not flagged special: they are part of the answer's text.
TEXT_TOKENS = frozenset({"<think>", "</think>", "<answer>", "</answer>", "/nothink"})
# Ids left free between the base vocabulary and ``vocab_size``; the special tokens take the first of them.
RESERVED_IDS = 64
_LIBRARY_FILES = 60

CHAT_TEMPLATE = """\
[gMASK]<sop>
{%- for message in messages -%}
<|{{ 'observation' if message.role == 'tool' else message.role }}|>
{% if message.content is string -%}
{{ message.content }}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}
<|begin_of_image|><|image|><|end_of_image|>
{%- elif part.type == 'text' -%}
{{ part.text }}
{%- else -%}
{{ raise_exception('unknown content part: ' ~ part.type) }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|assistant|>
{% endif -%}
"""

_CHINESE = """\
打开应用，点击搜索框，输入关键词，然后点击搜索按钮。当前页面没有找到目标商品，需要向下滑动屏幕查看更多内容。
点击坐标在屏幕的左上角，返回上一级页面，等待页面加载完成。请检查任务是否已经完成，如果没有完成就继续操作。
在京东和淘宝上比较价格，选择最便宜的平台下单。用户想要发送消息给朋友，先启动微信，再找到联系人。
长按图标，双击图片，向左滑动，向右滑动，返回桌面。任务完成，结束操作，并说明原因。今天的日期是星期一。
思考：我需要先看到搜索结果，再选择评分最高的餐厅。设置、音乐、地图、视频、外卖、订单、购物车、支付、地址。
"""
_SPLIT = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PREPROCESSOR = {
    "image_processor_type": "Glm4vImageProcessor",
    "size": {"shortest_edge": 12544, "longest_edge": 9633792},
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_convert_rgb": True,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "resample": 3,
    "rescale_factor": 1 / 255,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


def write_tokenizer(directory: str | Path, *, vocab_size: int = 8192) -> dict[str, int]:
    """Write ``tokenizer.json``, ``tokenizer_config.json``, ``chat_template.jinja``,
    ``preprocessor_config.json``.

    The same interpreter always gives the same bytes.

    Args:
        vocab_size: rows of the embedding this is for. The base vocabulary takes at most ``vocab_size - 64``
            ids, the special tokens the ids from there on; the rest stays unused padding.

    Returns:
        The id of each of :data:`SPECIAL_TOKENS`.

    Raises:
        InvalidInputError: ``vocab_size`` has no room for 256 bytes and the special tokens.
    """
    least = 256 + RESERVED_IDS
    if vocab_size < least:
        raise InvalidInputError(
            f"vocab_size must be at least {least}, got {vocab_size}",
            field="vocab_size",
            limit=least,
            value=vocab_size,
        )
    out = Path(directory)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = _train(vocab_size - RESERVED_IDS)
    for token in SPECIAL_TOKENS:
        if token in TEXT_TOKENS:
            tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)])
        else:
            tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
    tokenizer.save(str(out / "tokenizer.json"))
    _write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
            "padding_side": "left",
            "model_max_length": 65536,
        },
    )
    _write_json(out / "preprocessor_config.json", _PREPROCESSOR)
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    return {token: vocabulary[token] for token in SPECIAL_TOKENS}


def _train(base_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=base_size,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    return tokenizer


def _texts() -> Iterator[str]:
    yield _CHINESE * 20
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.glob("*.py"))[:_LIBRARY_FILES]:
        yield path.read_text(encoding="utf-8", errors="replace")


def _write_json(path: Path, value: dict[str, object]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
