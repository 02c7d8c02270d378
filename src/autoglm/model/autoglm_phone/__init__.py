"""The described layout: gated cross-attention to the image in the deeper layers."""

from autoglm.model.autoglm_phone.config import AutoGLMPhoneConfig, reference_config
from autoglm.model.autoglm_phone.model import AutoGLMPhoneModel

__all__ = ["AutoGLMPhoneConfig", "AutoGLMPhoneModel", "reference_config"]
