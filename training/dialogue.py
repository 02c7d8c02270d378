"""One training sample as text, exactly as the checkpoint's chat template writes it, and the tokenizer for it.

The instruction stands in a turn of its own, which sees no screen: its state is computed once per task. The turn of
the screen holds the app in front and the agent's last thought, which is all it remembers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from training.shape import COLUMNS, ROWS

SPECIAL = (
    "<|endoftext|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|image|>",
    "<|end_of_image|>",
)
TAP, HOLD = 'do(action="Tap", element=[', 'do(action="Long Press", element=['
GRAMMAR = (
    TAP,
    HOLD,
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "</think>\n<answer>",
    'do(action="Swipe", start=[',
    'do(action="Launch", app="',
    'do(action="Type", text="',
    'do(action="Back")',
    'do(action="Home")',
    'do(action="Wait", duration="',
    'do(action="Take_over", message="',
    'finish(message="',
    "], end=[",
    "])",
    '], message="',
    '")',
)
"""Pieces of the action grammar that are one token each: an action takes few steps to say."""
_SPLIT = r"\p{Han}|[A-Za-z]+|\p{N}{1,3}|\s|[^\s\p{L}\p{N}]|\p{L}"
"""Words without their blanks, so that a word is the same token wherever it is copied to."""

CHAT_TEMPLATE = """\
{#- The instruction is the first user turn's first paragraph; the client's long system prompt is not read. -#}
{%- macro words(content) -%}
{%- if content is string -%}{{ content }}{%- else -%}
{%- for part in content -%}{%- if part.type == 'text' -%}{{ part.text }}{%- endif -%}{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- set ns = namespace(first='', last='', thought='', image=false, asked=false) -%}
{%- for message in messages -%}
{%- if message.role == 'user' -%}
{%- if not ns.asked -%}{%- set ns.first = words(message.content) -%}{%- set ns.asked = true -%}{%- endif -%}
{%- set ns.last = words(message.content) -%}
{%- set ns.image = false -%}
{%- if message.content is not string -%}
{%- for part in message.content -%}{%- if part.type == 'image' -%}{%- set ns.image = true -%}{%- endif -%}{%- endfor -%}
{%- endif -%}
{%- elif message.role == 'system' and messages | length == 1 -%}
{%- set ns.first = words(message.content) -%}
{%- elif message.role == 'assistant' -%}
{%- set ns.thought = (words(message.content).split('</think>')[0]).split('<think>')[-1] -%}
{%- endif -%}
{%- endfor -%}
{%- set app = '' -%}
{%- if '"current_app": "' in ns.last -%}
{%- set app = (ns.last.split('"current_app": "')[-1]).split('"')[0] -%}
{%- endif -%}
<|system|>{{ (ns.first.split('\\n\\n')[0]).strip() }}<|user|>
{%- if ns.image -%}<|begin_of_image|><|image|><|end_of_image|>{%- endif -%}
{{ app }}
{{ ns.thought.strip() }}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
"""
PREPROCESSOR = {
    "image_processor_type": "AutoGLMPhoneImageProcessor",
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_convert_rgb": True,
    "resample": 3,
    "rescale_factor": 1 / 255,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def prompt_text(instruction: str, current_app: str, last_think: str) -> str:
    """What :data:`CHAT_TEMPLATE` writes for a step."""
    image = "<|begin_of_image|><|image|><|end_of_image|>"
    return f"<|system|>{instruction}<|user|>{image}{current_app}\n{last_think}<|assistant|>"


def answer_text(think: str, action: str) -> str:
    """What the model is to write."""
    return f"<think>{think}</think>\n<answer>{action}</answer>"


def coordinate_texts() -> list[str]:
    """Every number that stands for a column or a row of cells."""
    centres = {round((i + 0.5) / n * 1000) for n in (COLUMNS, ROWS) for i in range(n)}
    return [str(c) for c in sorted(centres)]


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE on ``texts``; the grammar's pieces and every coordinate are one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    added = len(SPECIAL) + len(GRAMMAR)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - added,
        show_progress=False,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator([*texts, *(" ".join(coordinate_texts()) for _ in range(50_000))], trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in GRAMMAR])
    return tokenizer


def write_prompt_files(directory: Path, tokenizer: Tokenizer) -> None:
    """``tokenizer.json`` and the small files beside it."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    for name, value in (("tokenizer_config.json", config), ("preprocessor_config.json", PREPROCESSOR)):
        (directory / name).write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
