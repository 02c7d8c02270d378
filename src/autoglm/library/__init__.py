"""The model as a library: encode an image, encode text, generate. The server's engine is not involved."""

from autoglm.library.face import AutoGLMPhone
from autoglm.library.images import EncodedImage

__all__ = ["AutoGLMPhone", "EncodedImage"]
