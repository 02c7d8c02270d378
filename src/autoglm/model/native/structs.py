"""The C structures of ``csrc/decoder.h``, field by field. ``ABI`` is counted up with any change."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from typing import Any, ClassVar

ABI = 7
F32, BF16, INT8, INT4 = range(4)
"""``enum weight_type``"""
Fields = list[tuple[str, Any]]


class MatrixC(Structure):
    """``matrix_t``: ``rows`` x ``cols`` numbers, row by row."""

    _fields_: ClassVar[Fields] = [
        *((name, c_int32) for name in ("type", "rows", "cols", "reserved")),
        *((name, c_void_p) for name in ("data", "scales", "bias")),
    ]
    type: int
    rows: int
    cols: int
    data: int | None
    scales: int | None
    bias: int | None


class LayerC(Structure):
    """``layer_t``"""

    _fields_: ClassVar[Fields] = [
        *((name, c_void_p) for name in ("input_norm", "attended_norm", "mlp_norm", "mlp_out_norm")),
        *((name, MatrixC) for name in ("qkv", "out", "gate_up", "down")),
        ("module", c_int32),
        ("gate", c_float),
        ("cross_norm", c_void_p),
        ("cross_q_norm", c_void_p),
        ("cross_q", MatrixC),
        ("cross_out", MatrixC),
    ]


class ModelC(Structure):
    """``model_t``"""

    _fields_: ClassVar[Fields] = [
        *((n, c_int32) for n in ("hidden", "layers", "heads", "kv_heads", "head_dim", "rotary_pairs", "intermediate")),
        *((n, c_int32) for n in ("vocab", "cross_heads", "cross_kv_heads", "cross_head_dim", "first_fusion")),
        *((n, c_int32) for n in ("gate_rank", "kv_type", "block_size", "max_rows", "max_tokens", "threads")),
        *((n, c_int32) for n in ("integer_products", "embed_first", "gate_first", "halves", "whole")),
        *((n, c_int32) for n in ("queries_before", "queries_after")),
        *((n, c_float) for n in ("eps", "gate_scale", "gate_bias")),
        *((n, MatrixC) for n in ("embed", "head", "gate_text")),
        *((n, c_void_p) for n in ("final_norm", "gate_norm", "inv_freq", "rotary_axis", "keys", "values")),
        ("layer_stride", c_int64),
        ("head_stride", c_int64),
        ("layer", POINTER(LayerC)),
        ("sum", c_void_p),
        ("group", c_void_p),
    ]
    hidden: int
    cross_heads: int
    gate_rank: int
    queries_before: int
    queries_after: int
    embed: MatrixC
    head: MatrixC
    sum: int | None
    group: int | None


class ImageC(Structure):
    """``image_t``"""

    _fields_: ClassVar[Fields] = [
        ("tokens", c_int32),
        ("reserved", c_int32),
        ("gate_keys", c_void_p),
        ("keys", c_void_p),
        ("values", c_void_p),
    ]


class RowC(Structure):
    """``row_t``: one token of one sequence."""

    _fields_: ClassVar[Fields] = [
        ("token", c_int32),
        ("position", c_int32 * 3),
        ("length", c_int32),
        ("images", c_int32),
        ("wanted", c_int32),
        ("reserved", c_int32),
        ("blocks", c_void_p),
        ("image", c_void_p),
    ]
    token: int
    position: ctypes.Array[c_int32]
    length: int
    images: int
    wanted: int
    blocks: int | None
    image: int | None


class SequenceC(Structure):
    """``sequence_t``: one sequence's part of a prefill."""

    _fields_: ClassVar[Fields] = [
        *((name, c_int32) for name in ("first", "rows", "length", "reserved")),
        ("slots", c_void_p),
    ]


class PrefillC(Structure):
    """``prefill_t``"""

    _fields_: ClassVar[Fields] = [
        *((name, c_int32) for name in ("rows", "sequences", "first", "last", "wanted", "reserved")),
        *((name, c_void_p) for name in ("input", "output", "rotation", "want")),
        ("sequence", POINTER(SequenceC)),
    ]
