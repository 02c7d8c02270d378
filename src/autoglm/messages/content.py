"""Chat content as it crosses to the engine: text, and images as their encoded bytes (never pixels)."""

from __future__ import annotations

from msgspec import Struct


class TextPart(Struct, frozen=True, tag="text"):
    """A piece of text, in the place it has in the message's content list."""

    text: str


class ImagePart(Struct, frozen=True, tag="image"):
    """An encoded image file (PNG, JPEG, WebP), exactly the bytes the client sent."""

    data: bytes


class ChatMessage(Struct, frozen=True):
    """One message of the dialogue. ``content`` is a plain string or an ordered list of parts."""

    role: str
    content: str | list[TextPart | ImagePart]
