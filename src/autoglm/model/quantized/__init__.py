"""Weight-only int8, int4 and fp8 of the decoder: made from a checkpoint at load time, kept on disk."""

from autoglm.model.quantized.linear import ALL_SCHEMES, SCHEMES, QuantizedLinear, check_packing, parameter_count
from autoglm.model.quantized.loading import load_quantized

__all__ = ["ALL_SCHEMES", "SCHEMES", "QuantizedLinear", "check_packing", "load_quantized", "parameter_count"]
