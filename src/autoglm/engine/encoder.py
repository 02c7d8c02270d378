"""The vision tower as the engine uses it: within a step, and ahead of the step that needs its features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial

import torch
from torch import Tensor

from autoglm.cache import VisualCache
from autoglm.engine.budget import FeatureKey, patches_of
from autoglm.engine.config import EngineConfig
from autoglm.engine.static_decode import encoder_recorder
from autoglm.model.autoglm_phone import AutoGLMPhoneModel
from autoglm.model.autoglm_phone.dual_stream import on_image_thread
from autoglm.model.context import ImageFeatures
from autoglm.model.cuda.encoder import RecordedEncoder
from autoglm.model.registry import Model
from autoglm.model.vision import Grid
from autoglm.prompt import ProcessedImage

Encode = Callable[[Sequence[Tensor], Sequence[Grid]], list[ImageFeatures]]


class ImageEncoder:
    """Encodes images. Ahead of a step it does so on the engine's thread; with ``beside``, on the thread of the image
    stream, beside the layers that need no image: as in a step of both streams, only that the image stream starts first.

    Attributes:
        ahead: images encoded ahead since start.
        patch_bytes: of features, as far as is known; 0 before anything was encoded ahead.
        on_idle: called on the image thread whenever it has finished.
    """

    def __init__(self, visual: VisualCache[ImageFeatures], encode: Encode, *, beside: bool) -> None:
        self.ahead = 0
        self.patch_bytes = 0.0
        self.on_idle: Callable[[], None] = lambda: None
        self._encode = encode
        self._visual = visual
        self._beside = beside
        self._under_way: dict[FeatureKey, ProcessedImage] = {}
        self._future: Future[list[ImageFeatures]] | None = None

    @classmethod
    def of(cls, model: Model, visual: VisualCache[ImageFeatures], config: EngineConfig) -> ImageEncoder:
        """Beside the text stream where a step's images would be, on the CPU; a GPU queues its work in any case."""
        beside = config.dual_streams and isinstance(model, AutoGLMPhoneModel) and model.device.type == "cpu"
        recorder = encoder_recorder(config, model.device)
        encode: Encode = model.encode_images
        if recorder is not None:
            encode = RecordedEncoder(model, recorder, config.encoder_graphs, config.graph_bytes).encode
        return cls(visual, encode, beside=beside)

    @property
    def busy(self) -> bool:
        """Whether the image thread is at work on what :meth:`start` gave it."""
        return self._future is not None and not self._future.done()

    @torch.inference_mode()
    def encode(self, images: Sequence[ProcessedImage]) -> list[ImageFeatures]:
        """One batch through the vision tower. The pixels are read where they are."""
        if not images:
            return []
        return self._encode([torch.from_numpy(i.pixels) for i in images], [i.grid for i in images])

    def start(self, images: Mapping[FeatureKey, ProcessedImage]) -> None:
        """Encode images that the cache lacks, in one batch. With ``beside`` returns at once; not while :attr:`busy`."""
        self.collect()
        self.ahead += len(images)
        job = partial(self.encode, list(images.values()))
        if not self._beside:
            self._keep(images, job())
            return
        self._under_way = dict(images)
        self._future = on_image_thread(job)
        self._future.add_done_callback(lambda _: self.on_idle())

    def collect(self) -> None:
        """Put what the image thread has finished into the cache."""
        if self._future is not None and self._future.done():
            images, future = self._under_way, self._future
            self._under_way, self._future = {}, None
            self._keep(images, future.result())

    def encode_step(self, images: Mapping[FeatureKey, ProcessedImage]) -> list[ImageFeatures]:
        """Features of all ``images``, of which some may be under way. The image thread may call it: what is under way
        there is done when it does."""
        if self._future is None or self._under_way.keys().isdisjoint(images):
            return self.encode(list(images.values()))
        known = dict(zip(self._under_way, self._future.result(), strict=True))
        rest = [key for key in images if key not in known]
        known |= zip(rest, self.encode([images[key] for key in rest]), strict=True)
        return [known[key] for key in images]

    def close(self) -> None:
        """Wait for the image thread."""
        if self._future is not None:
            self._future.exception()

    def _keep(self, images: Mapping[FeatureKey, ProcessedImage], encoded: Sequence[ImageFeatures]) -> None:
        patches = sum(patches_of(image) for image in images.values())
        self.patch_bytes = sum(one.nbytes for one in encoded) / patches
        for key, features in zip(images, encoded, strict=True):
            self._visual.put_ahead(key, features)
