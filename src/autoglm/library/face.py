"""``AutoGLMPhone``: the library's face, for both checkpoint layouts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autoglm.errors import CheckpointNotFoundError, InvalidInputError, PromptTooLongError
from autoglm.library.generation import Choose, generate
from autoglm.library.images import EncodedImage, checked_images, prepare
from autoglm.library.inputs import Images, build_prompts, checked_ids
from autoglm.model.autoglm_phone import AutoGLMPhoneConfig, AutoGLMPhoneModel
from autoglm.model.config import Glm4vConfig
from autoglm.model.glm4v import Glm4vModel
from autoglm.model.initialise import initialise, materialise
from autoglm.model.loading import LoadProgress, load_checkpoint
from autoglm.model.registry import Model, build_model
from autoglm.model.resolve import resolve_checkpoint
from autoglm.prompt.image_options import ImageOptions

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class AutoGLMPhone:
    """A vision-language model for phone screens.

    ``autoglm_phone`` checkpoints read images through gated cross-attention; ``glm4v`` checkpoints (the published
    weights) splice them into the token sequence. Both behave alike here, but for the placeholders in ``input_ids``:

    - ``autoglm_phone``: one image token per image says which turn the image belongs to. Without any, every token
      sees every image.
    - ``glm4v``: ``EncodedImage.num_tokens`` image tokens per image.
    """

    def __init__(self, model: Model, image_options: ImageOptions | None = None) -> None:
        self.model = model
        self.image_options = image_options or ImageOptions()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "autoglm-phone-9b",
        *,
        dtype: torch.dtype | str | None = None,
        device: torch.device | str = "cpu",
        progress: LoadProgress | None = None,
    ) -> AutoGLMPhone:
        """Load a checkpoint.

        Args:
            name_or_path: a directory, a name under ``AUTOGLM_MODEL_DIR``, or a Hugging Face hub id.
            dtype: float32, bfloat16 or float16; ``None``: as stored.

        Raises:
            CheckpointNotFoundError: the message lists the places looked at and what to do.
            CheckpointError: it is there and cannot be used.
        """
        path = resolve_checkpoint(name_or_path)
        wanted = None if dtype is None else _dtype(dtype)
        model = load_checkpoint(path, dtype=wanted, device=device, progress=progress)
        try:
            options = ImageOptions.from_directory(path)
        except CheckpointNotFoundError:  # weights alone: the published processor's values
            options = ImageOptions()
        return cls(model, options)

    @classmethod
    def from_config(
        cls,
        config: AutoGLMPhoneConfig | Glm4vConfig | Mapping[str, Any],
        *,
        dtype: torch.dtype | str = torch.float32,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> AutoGLMPhone:
        """Random weights for a configuration, or for a ``config.json`` as a mapping. The same seed gives the same
        weights on the same kind of device.

        Raises:
            UnsupportedCheckpointError: a configuration that no layout knows.
        """
        with torch.device("meta"):
            model: Model
            if isinstance(config, AutoGLMPhoneConfig):
                model = AutoGLMPhoneModel(config)
            elif isinstance(config, Glm4vConfig):
                model = Glm4vModel(config)
            else:
                model = build_model(config)
        materialise(model, _dtype(dtype), torch.device(device))
        return cls(initialise(model, seed))

    @torch.inference_mode()
    def encode_image(self, image_tensor: Tensor) -> EncodedImage | list[EncodedImage]:
        """Everything the decoder needs of an image; computed once, used in any number of ``generate`` calls.

        Args:
            image_tensor: RGB ``[3, H, W]`` or ``[B, 3, H, W]``, float in 0..1 or uint8; any size. It is resized as
                the layout needs: ``autoglm_phone`` to 576 patches of 14 pixels in the grid nearest to its shape
                (224 x 224 becomes 336 x 336).

        Returns:
            One :class:`EncodedImage`, or a list for a batch.

        Raises:
            InvalidInputError, ImageError: naming what is wrong with the tensor.
        """
        images = checked_images(image_tensor)
        pixels, grids = zip(*(prepare(image, self.model, self.image_options) for image in images), strict=True)
        features = self.model.encode_images(pixels, grids)
        phone = isinstance(self.model, AutoGLMPhoneModel)
        encoded = [
            EncodedImage(one, grid, 1 if phone else one.tensors[0].shape[0])
            for one, grid in zip(features, grids, strict=True)
        ]
        return encoded if image_tensor.dim() == 4 else encoded[0]

    @torch.inference_mode()
    def encode_text(self, text_tokens: Tensor) -> Tensor:
        """Token ids ``[T]`` or ``[B, T]`` -> embeddings ``[T, hidden]`` or ``[B, T, hidden]``.

        Raises:
            InvalidInputError: naming ``text_tokens``.
        """
        return self.model.embed_tokens(checked_ids(text_tokens, "text_tokens", self.model))

    def generate(
        self,
        image_features: Images = None,
        input_ids: Tensor | None = None,
        max_new_tokens: int = 128,
        *,
        temperature: float = 0.0,
        seed: int | None = None,
    ) -> Tensor:
        """Continue a prompt.

        Args:
            image_features: from :meth:`encode_image`. One image serves all rows; for a batch, a list with one entry
                per row (``None``, an image, or a list of images); for a single prompt, a list of its images.
            input_ids: ids ``[T]`` or ``[B, T]``, or embeddings from :meth:`encode_text`.
            max_new_tokens: cut to what the context has room for.
            temperature: 0 is greedy; else sampling, with ``seed``.

        Returns:
            int64 ``[new]`` or ``[B, new]``: the new ids, without the stop id that ended them; shorter rows are filled
            up with the model's first stop id.

        Raises:
            InvalidInputError: naming the argument.
            PromptTooLongError: no room for one new token.
        """
        if input_ids is None:
            raise InvalidInputError("input_ids is needed: token ids or embeddings", field="input_ids")
        if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, int) or max_new_tokens < 1:
            raise InvalidInputError(
                "max_new_tokens must be a whole number of at least 1", field="max_new_tokens", limit=1
            )
        choose = self._chooser(temperature, seed)
        with torch.inference_mode():
            prompts, batched = build_prompts(self.model, image_features, input_ids)
            length, context = prompts[0].hidden.shape[0], self.model.context_length
            if length >= context:
                raise PromptTooLongError(
                    f"input_ids has {length} tokens; the context is {context}, one of which is for the answer",
                    field="input_ids",
                    limit=context - 1,
                    value=length,
                )
            stops = self.model.stop_token_ids
            rows = generate(self.model, prompts, min(max_new_tokens, context - length), stops, choose)
        width, pad = max(len(row) for row in rows), stops[:1] or (0,)
        padded = torch.tensor([[*row, *pad * (width - len(row))] for row in rows], dtype=torch.int64)
        return padded if batched else padded[0]

    def _chooser(self, temperature: float, seed: int | None) -> Choose:
        if not 0.0 <= temperature < float("inf"):
            raise InvalidInputError("temperature must be 0 or more", field="temperature", limit=0, value=temperature)
        if temperature == 0.0:
            return partial(torch.argmax, dim=-1)
        generator = torch.Generator(self.model.device)
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)

        def sample(logits: Tensor) -> Tensor:
            return torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=generator)[:, 0]

        return sample


def _dtype(dtype: torch.dtype | str) -> torch.dtype:
    found = _DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if found not in _DTYPES.values() or found is None:
        raise InvalidInputError(f"dtype must be one of {', '.join(_DTYPES)}", field="dtype", value=str(dtype))
    return found
