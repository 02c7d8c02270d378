"""What one step may cost."""

from __future__ import annotations

from dataclasses import dataclass, field

FeatureKey = tuple[str, bytes]
"""(salt, image digest)"""


@dataclass(slots=True)
class Budget:
    """Rows and image patches left in a step."""

    tokens: int
    patches: int
    encoding: set[FeatureKey] = field(default_factory=set)

    def encode(self, key: FeatureKey, patches: int) -> bool:
        """Whether this image may be encoded in the step. An image over the whole budget may, alone."""
        if key in self.encoding:
            return True
        if patches > self.patches and self.encoding:
            return False
        self.patches -= patches
        self.encoding.add(key)
        return True
