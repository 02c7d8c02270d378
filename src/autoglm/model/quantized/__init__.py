"""Weight-only int8 and int4 of the decoder: made from a checkpoint at load time, kept on disk."""

from autoglm.model.quantized.linear import SCHEMES, QuantizedLinear, parameter_count
from autoglm.model.quantized.loading import load_quantized

__all__ = ["SCHEMES", "QuantizedLinear", "load_quantized", "parameter_count"]
