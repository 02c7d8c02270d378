"""A dialogue without its pictures: what is remembered of a request until the next one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoglm.messages import ChatMessage, ImagePart, TextPart
from autoglm.prompt import ProcessedImage, Prompt

Parts = list[TextPart | ImagePart]


@dataclass(frozen=True, slots=True)
class Shadow:
    """Messages whose image parts hold the digest of the processed image in the place of the file.

    Attributes:
        images: by digest, what a prompt is laid out with; ``pixels`` are empty.
        chars: of all texts, to bound what is kept.
    """

    messages: tuple[ChatMessage, ...]
    images: dict[bytes, ProcessedImage]
    chars: int


def shadow_of(messages: Sequence[ChatMessage], prompt: Prompt) -> Shadow:
    """Of a request and the prompt that was built from it."""
    placed = iter(prompt.images)
    found: dict[bytes, ProcessedImage] = {}
    shadows: list[ChatMessage] = []
    chars = 0
    for message in messages:
        if isinstance(message.content, str):
            chars += len(message.content)
            shadows.append(message)
            continue
        parts: Parts = []
        for part in message.content:
            if isinstance(part, TextPart):
                chars += len(part.text)
                parts.append(part)
                continue
            image = next(placed).image
            found[image.digest] = outline(image.digest, image.grid, image.num_tokens)
            parts.append(ImagePart(image.digest))
        shadows.append(ChatMessage(message.role, parts))
    return Shadow(tuple(shadows), found, chars)


def outline(digest: bytes, grid: tuple[int, int, int], num_tokens: int) -> ProcessedImage:
    """An image of which only the place in a prompt matters."""
    return ProcessedImage(digest, np.empty(0, np.float32), grid, num_tokens)


def images_of(message: ChatMessage) -> list[bytes]:
    """Digests of a shadow message's images."""
    if isinstance(message.content, str):
        return []
    return [part.data for part in message.content if isinstance(part, ImagePart)]


def kinds_of(message: ChatMessage) -> tuple[str, ...]:
    """What a message's content is made of: ``string``, or one of ``text``, ``image`` for each part."""
    if isinstance(message.content, str):
        return ("string",)
    return tuple("text" if isinstance(part, TextPart) else "image" for part in message.content)
