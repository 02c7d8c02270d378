"""What ``generate`` is given, checked and laid out: one :class:`Prompt` per row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from autoglm.errors import InvalidInputError
from autoglm.library.images import EncodedImage
from autoglm.model.autoglm_phone import AutoGLMPhoneModel
from autoglm.model.context import ImageFeatures
from autoglm.model.registry import Model

RowImages = EncodedImage | Sequence[EncodedImage] | None
Images = RowImages | Sequence[RowImages]
_UNKNOWN = -1


@dataclass(slots=True)
class Prompt:
    """One sequence, ready for the decoder.

    Attributes:
        hidden: ``[tokens, hidden_size]``. positions: int64 ``[3, tokens]``; token ``i`` beyond has ``i + delta``.
        sights: (start, end or ``None`` for open, images seen by the tokens in between).
    """

    hidden: Tensor
    positions: Tensor
    delta: int
    sights: list[tuple[int, int | None, tuple[ImageFeatures, ...]]] = field(default_factory=list)


def checked_ids(ids: Tensor, name: str, model: Model) -> Tensor:
    """``[T]`` or ``[B, T]`` token ids as int64 on the model's device.

    Raises:
        InvalidInputError: another type, shape, dtype, or an id outside the vocabulary.
    """
    if not isinstance(ids, Tensor):
        raise InvalidInputError(f"{name} must be a torch.Tensor, not {type(ids).__name__}", field=name)
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise InvalidInputError(f"{name} must hold integers, found {ids.dtype}", field=name, value=str(ids.dtype))
    _check_shape(ids, (1, 2), "[T] or [B, T]", name)
    low, high = (int(v) for v in torch.aminmax(ids))
    if low < 0 or high >= model.vocab_size:
        worst = low if low < 0 else high
        raise InvalidInputError(
            f"{name} holds {worst}, which is no token id below {model.vocab_size}",
            field=name,
            limit=model.vocab_size,
            value=worst,
        )
    return ids.to(model.device, torch.int64)


def build_prompts(model: Model, images: Images, input_ids: Tensor) -> tuple[list[Prompt], bool]:
    """Prompts of all rows, and whether ``input_ids`` had a batch dimension.

    Raises:
        InvalidInputError: naming ``input_ids`` or ``image_features``.
    """
    if isinstance(input_ids, Tensor) and input_ids.is_floating_point():
        size = model.config.text.hidden_size
        _check_shape(input_ids, (2, 3), f"[T, {size}] or [B, T, {size}] for embeddings", "input_ids", last=size)
        batched = input_ids.dim() == 3
        rows = (input_ids if batched else input_ids.unsqueeze(0)).to(model.device, model.dtype)
        ids = _special_ids(model, rows)
    else:
        checked = checked_ids(input_ids, "input_ids", model)
        batched = checked.dim() == 2
        ids = checked if batched else checked.unsqueeze(0)
        rows = model.embed_tokens(ids)
    per_row = _images_of_rows(images, rows.shape[0], batched)
    pairs = zip(ids.tolist(), rows.unbind(0), per_row, strict=True)
    return [_prompt(model, row_ids, hidden, seen) for row_ids, hidden, seen in pairs], batched


def _check_shape(tensor: Tensor, dims: tuple[int, ...], wanted: str, name: str, last: int | None = None) -> None:
    if tensor.dim() not in dims or 0 in tensor.shape or (last is not None and tensor.shape[-1] != last):
        found = str(list(tensor.shape))
        raise InvalidInputError(
            f"{name} must have shape {wanted} and not be empty, found {found}", field=name, value=found
        )


def _special_ids(model: Model, rows: Tensor) -> Tensor:
    """Ids of the embeddings that mean something to the layout (exactly equal rows); -1 for all other rows."""
    special = [model.config.image_token_id]
    if isinstance(model, AutoGLMPhoneModel):
        special += model.config.turn_start_token_ids
    ids = torch.full(rows.shape[:2], _UNKNOWN, device=rows.device)
    for token in special:
        embedding = model.embed_tokens(torch.tensor([token], device=rows.device))[0]
        ids[(rows == embedding).all(-1)] = token
    return ids


def _images_of_rows(images: Images, count: int, batched: bool) -> list[tuple[EncodedImage, ...]]:
    if images is None or isinstance(images, EncodedImage):
        return [_as_tuple(images)] * count
    if not isinstance(images, Sequence):
        raise _wrong_images(type(images).__name__)
    if not batched:
        return [_as_tuple(images)]
    if len(images) != count:
        raise InvalidInputError(
            f"image_features has {len(images)} entries for {count} rows of input_ids; give one per row "
            "(None, an image, or a list of images)",
            field="image_features",
            limit=count,
            value=len(images),
        )
    return [_as_tuple(entry) for entry in images]


def _as_tuple(images: object) -> tuple[EncodedImage, ...]:
    if images is None:
        return ()
    found = (images,) if isinstance(images, EncodedImage) else images
    if not isinstance(found, Sequence):
        raise _wrong_images(type(images).__name__)
    checked = tuple(image for image in found if isinstance(image, EncodedImage))
    if len(checked) != len(found):
        raise _wrong_images(type(images).__name__)
    return checked


def _wrong_images(kind: str) -> InvalidInputError:
    return InvalidInputError(
        f"image_features must be what encode_image returned, or a list of such, found {kind}", field="image_features"
    )


def _prompt(model: Model, ids: list[int], hidden: Tensor, images: tuple[EncodedImage, ...]) -> Prompt:
    places = [at for at, token in enumerate(ids) if token == model.config.image_token_id]
    if isinstance(model, AutoGLMPhoneModel):
        return _phone_prompt(model, ids, hidden, images, places)
    needed = sum(image.num_tokens for image in images)
    _check_places(len(places), needed, len(images), model)
    if not needed:
        positions, delta = model.rope_positions(len(ids), [])
        return Prompt(hidden, positions, delta)
    hidden, used, starts = hidden.clone(), 0, []
    for image in images:
        run = places[used : used + image.num_tokens]
        if run[-1] - run[0] != len(run) - 1:
            raise InvalidInputError(
                f"the {len(run)} placeholders of an image must stand together; they start at {run[0]}",
                field="input_ids",
                value=run[0],
            )
        hidden[run[0] : run[-1] + 1] = image.features.tensors[0]
        starts.append((run[0], image.grid))
        used += len(run)
    positions, delta = model.rope_positions(len(ids), starts)
    return Prompt(hidden, positions, delta)


def _phone_prompt(
    model: AutoGLMPhoneModel, ids: list[int], hidden: Tensor, images: tuple[EncodedImage, ...], places: list[int]
) -> Prompt:
    positions, delta = model.rope_positions(len(ids), [])
    features = tuple(image.features for image in images)
    if not places:  # no placeholder says where an image belongs: all tokens see all images
        return Prompt(hidden, positions, delta, [(0, None, features)] if features else [])
    _check_places(len(places), len(images), len(images), model)
    spans = model.visible_spans(ids, places)
    return Prompt(hidden, positions, delta, [(s, e, tuple(features[i] for i in seen)) for s, e, seen in spans])


def _check_places(found: int, needed: int, images: int, model: Model) -> None:
    if found != needed:
        raise InvalidInputError(
            f"input_ids has {found} placeholders (token {model.config.image_token_id}); {images} image(s) need {needed}"
            ", as EncodedImage.num_tokens says",
            field="input_ids",
            limit=needed,
            value=found,
        )
