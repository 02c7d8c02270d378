"""Chat messages to a :class:`Prompt`: template, tokens, and every image in its place."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from autoglm.errors import CorruptCheckpointError, InvalidInputError
from autoglm.messages.content import ChatMessage, ImagePart, TextPart
from autoglm.prompt.content_format import ContentFormat, template_messages
from autoglm.prompt.files import read_json
from autoglm.prompt.image_codec import ImageLimits
from autoglm.prompt.image_options import ImageOptions
from autoglm.prompt.image_processor import Glm4vImageProcessor, ImageProcessor, PhoneImageProcessor, PhoneOptions
from autoglm.prompt.image_work import ImageJob, ImageWork, OnImage, Process
from autoglm.prompt.pipeline import ImagePipeline
from autoglm.prompt.role_support import probe_roles
from autoglm.prompt.shared import SharedPrompts
from autoglm.prompt.template import ChatTemplate
from autoglm.prompt.token_cache import TokenCache
from autoglm.prompt.tokenizer import Tokenizer
from autoglm.prompt.types import PlacedImage, ProcessedImage, Prompt

Layout = Literal["glm4v", "autoglm_phone"]


@dataclass(frozen=True, slots=True)
class ImageTokenIds:
    """Ids of the placeholder and of the two tokens around it, from ``config.json``."""

    image: int
    start: int
    end: int

    @classmethod
    def from_config(cls, config: dict[str, Any], tokenizer: Tokenizer) -> ImageTokenIds:
        """Raises :class:`CorruptCheckpointError` for an id that is missing or that the tokenizer lacks."""
        found: dict[str, int] = {}
        for key, text in (
            ("image_token_id", None),
            ("image_start_token_id", "<|begin_of_image|>"),
            ("image_end_token_id", "<|end_of_image|>"),
        ):
            value = config.get(key, tokenizer.token_id(text) if text else None)
            if isinstance(value, bool) or not isinstance(value, int) or tokenizer.token(value) is None:
                raise CorruptCheckpointError(
                    f"config.json: {key}={value} is not a token of tokenizer.json",
                    field=key,
                    limit=tokenizer.vocab_size,
                    value=value if isinstance(value, int) else str(value),
                )
            found[key] = value
        return cls(*found.values())


@dataclass(frozen=True, slots=True)
class PromptLimits:
    """Bounds on one request: images, and characters of text over all messages."""

    max_images: int = 16
    max_text_chars: int = 512 * 1024


class PromptBuilder:
    """Builds prompts; thread-safe, as all its parts are.

    A text that spells one of the image tokens is refused: once tokenised it could not be told from an
    image's own placeholder, and another image's pixels would move to the wrong place. Other special tokens
    in texts are parsed (see :class:`Tokenizer`).

    Args:
        layout: ``glm4v`` expands a placeholder to the image's tokens; ``autoglm_phone`` keeps one per image.
        content_format: see :func:`template_messages`.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        image_pipeline: ImagePipeline,
        image_token_ids: ImageTokenIds,
        layout: Layout,
        *,
        content_format: ContentFormat = "openai",
        limits: PromptLimits | None = None,
        token_cache_bytes: int = 8 * 2**20,
        shared: SharedPrompts | None = None,
    ) -> None:
        for name, value, allowed in (
            ("layout", layout, ("glm4v", "autoglm_phone")),
            ("content_format", content_format, ("openai", "string")),
        ):
            if value not in allowed:
                raise InvalidInputError(f"{name} must be one of {allowed}, got {value!r}", field=name, value=str(value))
        self.tokenizer = tokenizer
        self.tokens = TokenCache(tokenizer, token_cache_bytes, shared)
        self.shared = shared
        self.template = template
        self.images = image_pipeline
        self.image_token_ids = image_token_ids
        self.layout = layout
        self.content_format = content_format
        self.limits = limits or PromptLimits()
        self._roles = probe_roles(template)
        ids = (image_token_ids.start, image_token_ids.image, image_token_ids.end)
        self._reserved = tuple(token for token in map(tokenizer.token, ids) if token is not None)
        self._placeholder = "".join(self._reserved)

    @classmethod
    def from_checkpoint(
        cls,
        directory: str | Path,
        layout: Layout,
        *,
        content_format: ContentFormat = "openai",
        limits: PromptLimits | None = None,
        image_limits: ImageLimits | None = None,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        image_cache_bytes: int = 512 * 2**20,
        token_cache_bytes: int = 8 * 2**20,
        shared: SharedPrompts | None = None,
    ) -> PromptBuilder:
        """Read everything from a checkpoint directory.

        Args:
            min_pixels, max_pixels: see :class:`Glm4vImageProcessor`; refused for ``autoglm_phone``.
            shared: what replicas share; closed by who made it.

        Raises:
            CheckpointError: a file is missing, damaged or of an unsupported kind.
            InvalidInputError: an option out of range.
        """
        tokenizer = Tokenizer.from_directory(directory)
        template = ChatTemplate.from_directory(directory, named_tokens=tokenizer.named_tokens)
        options = ImageOptions.from_directory(directory)
        config = read_json(Path(directory) / "config.json")
        processor: ImageProcessor
        if layout == "autoglm_phone":
            if (min_pixels, max_pixels) != (None, None):
                raise InvalidInputError(
                    "min_pixels and max_pixels do not apply to layout autoglm_phone",
                    field="max_pixels" if max_pixels is not None else "min_pixels",
                    value=max_pixels if max_pixels is not None else min_pixels,
                )
            processor = PhoneImageProcessor(options, PhoneOptions.from_config(config))
        else:
            processor = Glm4vImageProcessor(options, min_pixels=min_pixels, max_pixels=max_pixels)
        return cls(
            tokenizer,
            template,
            ImagePipeline(processor, limits=image_limits, capacity_bytes=image_cache_bytes, shared=shared),
            ImageTokenIds.from_config(config, tokenizer),
            layout,
            content_format=content_format,
            limits=limits,
            token_cache_bytes=token_cache_bytes,
            shared=shared,
        )

    def forget(self) -> None:
        """Empty the first levels: processed images and tokenised texts."""
        self.images.clear()
        self.tokens.clear()

    def build(
        self,
        messages: list[ChatMessage],
        *,
        process: Process | None = None,
        pool: Executor | None = None,
        on_image: OnImage | None = None,
    ) -> Prompt:
        """Render, tokenise and place.

        Args:
            process: what an image part's data stands for; by default they are encoded files.
            pool: threads that take images over where they are free; the caller may be one of them.
            on_image: told of each image as soon as its pixels are there, from the thread that made them. Images then
                come before the text: whoever is told may work on them while this builds on. The prompt may be refused
                all the same.

        Raises:
            InvalidInputError: naming ``messages[i].role``, ``messages[i].content`` or ``messages``.
            ImageError: naming ``messages[i].content[j]``.
        """
        self._check(messages)
        jobs = _image_jobs(messages)
        work = ImageWork(process or self.images.process, jobs, pool, on_image)
        if on_image is not None:
            work.begin()
        rendered = self.template.render(
            template_messages(messages, self._roles, self.content_format, self._placeholder)
        )
        token_ids = self.tokens.encode(rendered)
        found = token_ids.count(self.image_token_ids.image)
        if found != len(jobs):
            raise InvalidInputError(
                f"messages hold {len(jobs)} images, but the rendered prompt has {found} image placeholders",
                field="messages",
                limit=len(jobs),
                value=found,
            )
        if on_image is None:
            work.begin()
        return self._place(token_ids, work.finish())

    def _place(self, token_ids: list[int], images: list[ProcessedImage]) -> Prompt:
        placeholder = self.image_token_ids.image
        out: list[int] = []
        placed: list[PlacedImage] = []
        done = 0
        for image in images:
            at = token_ids.index(placeholder, done)
            out += token_ids[done:at]
            placed.append(PlacedImage(image=image, start=len(out)))
            out += [placeholder] * image.num_tokens
            done = at + 1
        out += token_ids[done:]
        return Prompt(token_ids=out, images=tuple(placed))

    def _check(self, messages: list[ChatMessage]) -> None:
        if not messages:
            raise InvalidInputError("messages must not be empty", field="messages", limit=1, value=0)
        chars = images = 0
        for index, message in enumerate(messages):
            if message.role not in self._roles:
                raise InvalidInputError(
                    f"messages[{index}].role: {message.role[:40]!r} is not a role of this model; "
                    f"it knows {', '.join(self._roles)}",
                    field=f"messages[{index}].role",
                    limit=", ".join(self._roles),
                    value=message.role[:40],
                )
            text, count = _measure(message, index)
            self._check_text(text, index)
            chars, images = chars + len(text), images + count
        for what, value, limit in (
            ("images", images, self.limits.max_images),
            ("characters of text", chars, self.limits.max_text_chars),
        ):
            if value > limit:
                raise InvalidInputError(
                    f"messages hold {value} {what}, over the limit of {limit}",
                    field="messages",
                    limit=limit,
                    value=value,
                )

    def _check_text(self, text: str, index: int) -> None:
        field = f"messages[{index}].content"
        for token in self._reserved:
            if token in text:
                raise InvalidInputError(
                    f"{field}: the text contains the image token {token}; send images as image parts",
                    field=field,
                    value=token,
                )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInputError(
                f"{field}: the text holds a lone surrogate at character {error.start}",
                field=field,
                value=error.start,
            ) from error


def _measure(message: ChatMessage, index: int) -> tuple[str, int]:
    """All text of a message, joined as closely as a template could join it, and its number of images."""
    if isinstance(message.content, str):
        return message.content, 0
    if not message.content:
        raise InvalidInputError(
            f"messages[{index}].content must not be an empty list",
            field=f"messages[{index}].content",
            limit=1,
            value=0,
        )
    texts = [part.text for part in message.content if isinstance(part, TextPart)]
    return "".join(texts), len(message.content) - len(texts)


def _image_jobs(messages: Sequence[ChatMessage]) -> list[ImageJob]:
    return [
        (f"messages[{i}].content[{j}]", part.data)
        for i, message in enumerate(messages)
        if not isinstance(message.content, str)
        for j, part in enumerate(message.content)
        if isinstance(part, ImagePart)
    ]
