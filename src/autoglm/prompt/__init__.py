"""Chat messages to token ids and image tensors, and token ids back to text. No torch here."""

from autoglm.prompt.builder import ImageTokenIds, Layout, PromptBuilder, PromptLimits
from autoglm.prompt.content_format import ContentFormat
from autoglm.prompt.detokenizer import IncrementalDetokenizer
from autoglm.prompt.image_codec import ImageLimits, decode_image, encoded_digest
from autoglm.prompt.image_options import ImageOptions
from autoglm.prompt.image_processor import (
    Glm4vImageProcessor,
    ImageProcessor,
    PhoneImageProcessor,
    PhoneOptions,
    smart_resize,
)
from autoglm.prompt.pipeline import ImagePipeline
from autoglm.prompt.shared import SharedPrompts
from autoglm.prompt.stop_strings import StopChecker
from autoglm.prompt.template import ChatTemplate
from autoglm.prompt.tokenizer import Tokenizer
from autoglm.prompt.types import PlacedImage, ProcessedImage, Prompt

__all__ = [
    "ChatTemplate",
    "ContentFormat",
    "Glm4vImageProcessor",
    "ImageLimits",
    "ImageOptions",
    "ImagePipeline",
    "ImageProcessor",
    "ImageTokenIds",
    "IncrementalDetokenizer",
    "Layout",
    "PhoneImageProcessor",
    "PhoneOptions",
    "PlacedImage",
    "ProcessedImage",
    "Prompt",
    "PromptBuilder",
    "PromptLimits",
    "SharedPrompts",
    "StopChecker",
    "Tokenizer",
    "decode_image",
    "encoded_digest",
    "smart_resize",
]
