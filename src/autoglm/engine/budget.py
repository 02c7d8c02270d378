"""What one step may cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from autoglm.prompt import ProcessedImage

FeatureKey = tuple[str, bytes]
"""(salt, image digest)"""


@dataclass(slots=True)
class Budget:
    """Rows and image patches left in a step."""

    tokens: int
    patches: int
    encoding: set[FeatureKey] = field(default_factory=set)

    def encode(self, images: Mapping[FeatureKey, int]) -> bool:
        """Whether these images (with their patches) may be encoded in the step: all of them, or none.

        A group over the whole budget may, if it is the step's first: it would never run otherwise.
        """
        fresh = {key: patches for key, patches in images.items() if key not in self.encoding}
        if fresh and self.encoding and sum(fresh.values()) > self.patches:
            return False
        self.patches -= sum(fresh.values())
        self.encoding.update(fresh)
        return True


def patches_of(image: ProcessedImage) -> int:
    """Patches the vision tower reads: the cost of an image."""
    t, h, w = image.grid
    return t * h * w
