"""The four cases of the side by side, the same text and pixels for every subject.

Prompts are raw text with image marks, so that no subject's chat template takes part, and every length is exact
in tokens of the checkpoint's own tokenizer. Nothing depends on the machine: words and screenshots come from seeds.

- ``a``: one text prompt;
- ``b``: one screenshot and text;
- ``c``: a phone dialogue: each step brings a new screenshot, the one before is dropped from the history, the text
  stays. Replies are scripted, so every subject sees the same history whatever it answered;
- ``d``: prompts as in ``a``, all different, at once.
"""

from __future__ import annotations

import base64
import io
import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from tokenizers import Tokenizer

IMAGE = "<|begin_of_image|><|image|><|end_of_image|>"
IMAGE_MARK_TOKENS = 3
_START, _SYSTEM, _USER, _END = "[gMASK]<sop>", "<|system|>\n", "<|user|>\n", "<|assistant|>\n"
_TEXT = """
    open the settings page tap on search field and type a value then scroll down to find item list check that
    price name button color size menu home back wait screen swipe left right long press login user password
    message send photo map weather order food ticket train hotel note calendar alarm music play stop next
"""
_WORDS = _TEXT.split()


@dataclass(frozen=True, slots=True)
class Spec:
    """Sizes of the workload: tokens, pixels (``image_side``), steps and requests at once."""

    text_tokens: int = 512
    image_side: int = 448
    image_text_tokens: int = 256
    new_tokens: int = 64
    system_tokens: int = 600
    user_tokens: int = 40
    step_new_tokens: int = 48
    steps: int = 6
    concurrency: int = 8


FULL = Spec()
QUICK = Spec(
    text_tokens=40,
    image_side=112,
    image_text_tokens=24,
    new_tokens=6,
    system_tokens=64,
    user_tokens=12,
    step_new_tokens=6,
    steps=3,
    concurrency=3,
)


@dataclass(frozen=True, slots=True)
class Request:
    """Raw text with one :data:`IMAGE` mark per image (PNG bytes); exactly ``new_tokens`` are to be generated."""

    text: str
    images: tuple[bytes, ...]
    new_tokens: int


@dataclass(frozen=True, slots=True)
class Case:
    """Requests one after the other (a dialogue), or all at once when ``concurrent``."""

    name: str
    requests: tuple[Request, ...]
    concurrent: bool = False


def build(tokenizer_file: Path, spec: Spec) -> list[Case]:
    """The cases for a checkpoint's ``tokenizer.json``."""
    filler = _Filler(Tokenizer.from_file(str(tokenizer_file)))
    texts = [filler.fill(_START + _USER, _END, spec.text_tokens, 100 + i) for i in range(spec.concurrency)]
    with_image = filler.fill(_START + _USER + IMAGE, _END, spec.image_text_tokens + IMAGE_MARK_TOKENS, 7)
    requests = tuple(Request(text, (), spec.new_tokens) for text in texts)
    image = Request(with_image, (screenshot(1, spec.image_side),), spec.new_tokens)
    return [
        Case("a", requests[:1]),
        Case("b", (image,)),
        Case("c", _dialogue(filler, spec)),
        Case("d", requests, concurrent=True),
    ]


def warm_up(cases: list[Case], new_tokens: int = 4) -> list[Case]:
    """Short requests that share nothing with the measured prompts' beginnings.

    ``warm_up``: a text, then an image; ``warm_up_concurrent``: as many texts at once as case d has, so that what a
    subject makes ready at the first such call is not measured.
    """
    image = next(r for case in cases for r in case.requests if r.images)
    width = max(len(case.requests) for case in cases if case.concurrent)
    head, words = _START + _USER + "warm up ", " ".join(_WORDS[:24]) + _END
    alone = (Request(head + words, (), new_tokens), Request(head + IMAGE + words, image.images, new_tokens))
    together = tuple(Request(f"{head}{i} {words}", (), new_tokens) for i in range(width))
    return [Case("warm_up", alone), Case("warm_up_concurrent", together, concurrent=True)]


def screenshot(seed: int, side: int) -> bytes:
    """A PNG of coloured rectangles and words, ``side`` pixels square."""
    draw_random = random.Random(seed)
    background = tuple(draw_random.randrange(200, 256) for _ in range(3))
    image = Image.new("RGB", (side, side), background)
    draw = ImageDraw.Draw(image)
    for _ in range(60):
        x, y = draw_random.randrange(side), draw_random.randrange(side)
        box = (x, y, x + draw_random.randrange(10, 120), y + draw_random.randrange(8, 50))
        draw.rectangle(box, fill=tuple(draw_random.randrange(256) for _ in range(3)))
        at = (draw_random.randrange(side), draw_random.randrange(side))
        draw.text(at, draw_random.choice(_WORDS), fill=(0, 0, 0))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def dump(cases: list[Case], file: Path) -> None:
    """Write the cases for the subjects' processes; :func:`load` reads them back."""
    plain = [asdict(case) for case in cases]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(plain, default=_as_text), encoding="utf-8")


def load(file: Path) -> list[Case]:
    """The cases of a file written by :func:`dump`."""
    return [
        Case(case["name"], tuple(_request(r) for r in case["requests"]), case["concurrent"])
        for case in json.loads(file.read_text(encoding="utf-8"))
    ]


def _as_text(value: object) -> str:
    if not isinstance(value, bytes):
        raise TypeError(f"cannot write {type(value).__name__}")
    return base64.b64encode(value).decode()


def _request(plain: dict[str, Any]) -> Request:
    images = tuple(base64.b64decode(image) for image in plain["images"])
    return Request(plain["text"], images, plain["new_tokens"])


def _dialogue(filler: _Filler, spec: Spec) -> tuple[Request, ...]:
    history = filler.fill(_START + _SYSTEM, "", spec.system_tokens, 11)
    requests = []
    for step in range(spec.steps):
        user = filler.fill("", "", spec.user_tokens, 20 + step)
        reply = filler.fill("<think>", "</answer>", spec.step_new_tokens, 40 + step)
        image = screenshot(50 + step, spec.image_side)
        requests.append(Request(history + _USER + IMAGE + user + _END, (image,), spec.step_new_tokens))
        history += _USER + user + _END + reply
    return tuple(requests)


class _Filler:
    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def fill(self, head: str, tail: str, tokens: int, seed: int) -> str:
        """``head``, seeded words, ``tail``: exactly ``tokens`` tokens."""
        chosen = random.Random(seed)
        words = [" " + chosen.choice(_WORDS) for _ in range(tokens)]
        low, high = 0, len(words)
        while low < high:
            middle = (low + high + 1) // 2
            if self.count(head + "".join(words[:middle]) + tail) <= tokens:
                low = middle
            else:
                high = middle - 1
        body = head + "".join(words[:low])
        for pad in range(8):
            text = body + " a" * pad + tail
            if self.count(text) == tokens:
                return text
        raise ValueError(f"no text of exactly {tokens} tokens with this tokenizer (seed {seed})")
