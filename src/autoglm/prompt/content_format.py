"""Chat messages to the dictionaries a chat template sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from autoglm.errors import InvalidInputError
from autoglm.messages.content import ChatMessage, ImagePart, TextPart
from autoglm.prompt.role_support import RoleSupport

ContentFormat = Literal["openai", "string"]


def template_messages(
    messages: Sequence[ChatMessage],
    roles: Mapping[str, RoleSupport],
    content_format: ContentFormat,
    placeholder: str,
) -> list[dict[str, Any]]:
    """What is passed to the template as ``messages``.

    ``openai``: a list of parts stays a list, images where they stand. ``string``: every content becomes one
    string, the image placeholders first, then the texts, all joined by newlines (vLLM's flattening). Where
    the template takes only one of the two forms for a role, text is brought into that form; nothing is
    lost.

    Args:
        roles: see :func:`probe_roles`; every message's role is in it.
        placeholder: the text that stands for one image in the ``string`` format.
    """
    return [
        {
            "role": message.role,
            "content": _content(message.content, roles[message.role], content_format, placeholder, index),
        }
        for index, message in enumerate(messages)
    ]


def _content(
    content: str | list[TextPart | ImagePart],
    support: RoleSupport,
    content_format: ContentFormat,
    placeholder: str,
    index: int,
) -> str | list[dict[str, str]]:
    if isinstance(content, str):
        return content if support.string else [{"type": "text", "text": content}]
    images = sum(isinstance(part, ImagePart) for part in content)
    texts = [part.text for part in content if isinstance(part, TextPart)]
    if content_format == "string":
        flat = "\n".join([placeholder] * images + texts)
        return flat if support.string else [{"type": "text", "text": flat}]
    if support.parts:
        return [
            {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": "image"} for part in content
        ]
    if images:
        raise InvalidInputError(
            f"messages[{index}].content: this model's chat template takes no images in this role",
            field=f"messages[{index}].content",
            limit=0,
            value=images,
        )
    return "\n".join(texts)
