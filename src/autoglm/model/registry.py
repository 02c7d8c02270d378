"""From ``model_type`` to a layout, and what every layout offers the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoglm.errors import UnsupportedCheckpointError
from autoglm.model.autoglm_phone import AutoGLMPhoneConfig, AutoGLMPhoneModel
from autoglm.model.config import Glm4vConfig
from autoglm.model.glm4v import Glm4vModel

Model = Glm4vModel | AutoGLMPhoneModel
LAYOUTS = ("glm4v", "autoglm_phone")


def build_model(config: Mapping[str, Any], generation: Mapping[str, Any] | None = None) -> Model:
    """The model that a ``config.json`` describes, on the default device, weights not yet set."""
    kind = config.get("model_type")
    if kind == "glm4v":
        return Glm4vModel(Glm4vConfig.from_dict(config, generation))
    if kind == "autoglm_phone":
        return AutoGLMPhoneModel(AutoGLMPhoneConfig.from_dict(config, generation))
    raise UnsupportedCheckpointError(
        f"model_type {kind!r} is not one of {', '.join(LAYOUTS)}",
        field="model_type",
        limit=", ".join(LAYOUTS),
        value=str(kind),
    )
