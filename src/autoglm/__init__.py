"""Real-time inference and serving for AutoGLM-Phone-9B class multimodal phone agents."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from autoglm.library import AutoGLMPhone

__all__ = ["AutoGLMPhone", "__version__"]


def __getattr__(name: str) -> Any:
    """``AutoGLMPhone`` on first use, so that ``import autoglm`` does not import torch."""
    if name == "AutoGLMPhone":
        from autoglm.library import AutoGLMPhone

        return AutoGLMPhone
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
