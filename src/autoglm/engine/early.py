"""Images encoded before their prompts are there: the vision tower starts while the text is still being tokenised.

A prompt worker hands on pixels as soon as it has them (:attr:`~autoglm.engine.admission.Admission.decoded`). Where
nothing but decoding is to do, they are encoded at once. The features are an entry of the visual cache that nobody has
pinned: the prompt finds it there as it would find any other, and a prompt that is refused or cancelled leaves it there.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from autoglm.cache import VisualCache
from autoglm.engine.admission import Decoded
from autoglm.engine.budget import Budget, FeatureKey, patches_of
from autoglm.engine.encoder import ImageEncoder
from autoglm.engine.scheduler import Scheduler
from autoglm.engine.sequence import Sequence
from autoglm.model.context import ImageFeatures
from autoglm.prompt import ProcessedImage

_MOST_SHOWN = 16384


class EarlyImages:
    """Decides which images are encoded ahead. Not thread-safe: the engine's loop owns it.

    Only screens that no prompt has shown yet: of any other the KV may be there, and then nobody reads its features.

    Args:
        decoded: see :class:`~autoglm.engine.admission.Admission`.
        patches: encoded at once at most, the encoder budget of a step; one image always fits.
    """

    def __init__(
        self, decoded: deque[Decoded], encoder: ImageEncoder, visual: VisualCache[ImageFeatures], patches: int
    ) -> None:
        self._decoded = decoded
        self._encoder = encoder
        self._visual = visual
        self._patches = patches
        self._shown: OrderedDict[FeatureKey, None] = OrderedDict()

    @property
    def ready(self) -> bool:
        """Whether :meth:`step` would do something, if nothing else is to do."""
        return bool(self._decoded) and not self._encoder.busy

    def shown(self, sequence: Sequence) -> None:
        """A prompt shows these images."""
        for placed in sequence.images:
            key = (sequence.salt, placed.image.digest)
            self._shown[key] = None
            self._shown.move_to_end(key)
        while len(self._shown) > _MOST_SHOWN:
            self._shown.popitem(last=False)

    def step(self, scheduler: Scheduler) -> None:
        """Encode what fits into the budget of one step, unless a prompt that is there already can use the time.

        What decodes meanwhile is held up by that budget at most, as by the images of a prompt in a step of its own.
        """
        self._encoder.collect()
        while self._decoded and not self._wanted(self._decoded[0]):
            self._decoded.popleft()
        if not self.ready or scheduler.waiting or any(s.remaining > 1 for s in scheduler.running):
            return
        batch = self._batch()
        if batch:
            self._encoder.start(batch)

    def _batch(self) -> dict[FeatureKey, ProcessedImage]:
        budget, room = Budget(0, self._patches), self._visual.room
        batch: dict[FeatureKey, ProcessedImage] = {}
        while self._decoded:
            decoded = self._decoded[0]
            if self._wanted(decoded) and not self._visual.recall(decoded.key):
                patches = patches_of(decoded.image)
                room -= int(patches * self._encoder.patch_bytes)
                if room >= 0:  # else the features would be gone before anybody could use them
                    if not budget.encode({decoded.key: patches}):
                        break
                    batch[decoded.key] = decoded.image
            self._decoded.popleft()
        return batch

    def _wanted(self, decoded: Decoded) -> bool:
        return not decoded.build.over and decoded.key not in self._shown and decoded.key not in self._visual
