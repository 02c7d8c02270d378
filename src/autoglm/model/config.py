"""Configuration of the ``glm4v`` layout, read from a checkpoint's ``config.json``.

Source of the field names: the published checkpoint format (legacy and current rope fields). Rotary values have
no defaults here: a checkpoint without them would run and answer nonsense.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoglm.errors import UnsupportedCheckpointError


@dataclass(frozen=True, slots=True)
class TextConfig:
    """The GLM decoder. ``mrope_section`` is in frequency pairs: temporal, height, width."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    rotary_dim: int
    mrope_section: tuple[int, int, int]

    @property
    def q_size(self) -> int:
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        return self.num_kv_heads * self.head_dim


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """The vision tower and its merger; ``out_hidden_size`` is the decoder's width and the blocks' MLP width."""

    hidden_size: int
    depth: int
    num_heads: int
    out_hidden_size: int
    merger_size: int
    image_size: int
    patch_size: int
    temporal_patch_size: int
    merge_size: int
    rms_norm_eps: float
    in_channels: int = 3

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def patch_values(self) -> int:
        """Numbers in one patch row: channels x temporal x height x width."""
        return self.in_channels * self.temporal_patch_size * self.patch_size**2


@dataclass(frozen=True, slots=True)
class Glm4vConfig:
    """A whole ``glm4v`` checkpoint."""

    text: TextConfig
    vision: VisionConfig
    image_token_id: int
    stop_token_ids: tuple[int, ...]
    tie_word_embeddings: bool = False

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], generation: Mapping[str, Any] | None = None) -> Glm4vConfig:
        """Parse ``config.json`` and ``generation_config.json``.

        Raises:
            UnsupportedCheckpointError: another model type, or a field that is missing; named.
        """
        if raw.get("model_type") != "glm4v":
            raise UnsupportedCheckpointError(
                f"model_type is {raw.get('model_type')!r}, expected 'glm4v'", field="model_type"
            )
        text = _section(raw, "text_config")
        return cls(
            text=_text(text),
            vision=_vision(_section(raw, "vision_config")),
            image_token_id=int(require(raw, "image_token_id")),
            stop_token_ids=stop_ids(generation or {}, raw, text),
            tie_word_embeddings=bool(raw.get("tie_word_embeddings", False)),
        )


def require(raw: Mapping[str, Any], name: str) -> Any:
    """``raw[name]``, or an error that names the field."""
    if raw.get(name) is None:
        raise UnsupportedCheckpointError(f"config.json lacks {name}", field=name)
    return raw[name]


def stop_ids(*sources: Mapping[str, Any]) -> tuple[int, ...]:
    """``eos_token_id`` (a number or a list) of the first source that has one."""
    for source in sources:
        value = source.get("eos_token_id")
        if value is not None:
            return tuple(value) if isinstance(value, list) else (int(value),)
    raise UnsupportedCheckpointError(
        "neither generation_config.json nor config.json has eos_token_id", field="eos_token_id"
    )


def rope_fields(text: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary parameters from the current (``rope_parameters``) or the legacy top-level fields."""
    rope = dict(text.get("rope_scaling") or {})
    rope |= {k: text[k] for k in ("rope_theta", "partial_rotary_factor") if text.get(k) is not None}
    rope |= text.get("rope_parameters") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "mrope"):
        raise UnsupportedCheckpointError(f"rope type {kind!r} is not supported", field="rope_type", value=str(kind))
    return rope


def _section(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = require(raw, name)
    if not isinstance(section, Mapping):
        raise UnsupportedCheckpointError(f"{name} is not an object", field=name)
    return section


def _text(raw: Mapping[str, Any]) -> TextConfig:
    rope = rope_fields(raw)
    hidden, heads = int(require(raw, "hidden_size")), int(require(raw, "num_attention_heads"))
    head_dim = int(raw.get("head_dim") or hidden // heads)
    rotary = int(head_dim * float(require(rope, "partial_rotary_factor")))
    section = tuple(int(x) for x in require(rope, "mrope_section"))
    if len(section) != 3 or sum(section) != rotary // 2:
        raise UnsupportedCheckpointError(
            f"mrope_section {section} does not cover {rotary // 2} frequency pairs", field="mrope_section"
        )
    if not raw.get("attention_bias", True):
        raise UnsupportedCheckpointError("glm4v needs attention_bias true", field="attention_bias")
    return TextConfig(
        vocab_size=int(require(raw, "vocab_size")),
        hidden_size=hidden,
        num_layers=int(require(raw, "num_hidden_layers")),
        num_heads=heads,
        num_kv_heads=int(require(raw, "num_key_value_heads")),
        head_dim=head_dim,
        intermediate_size=int(require(raw, "intermediate_size")),
        max_position_embeddings=int(require(raw, "max_position_embeddings")),
        rms_norm_eps=float(require(raw, "rms_norm_eps")),
        rope_theta=float(require(rope, "rope_theta")),
        rotary_dim=rotary,
        mrope_section=(section[0], section[1], section[2]),
    )


def _vision(raw: Mapping[str, Any]) -> VisionConfig:
    return VisionConfig(
        hidden_size=int(require(raw, "hidden_size")),
        depth=int(require(raw, "depth")),
        num_heads=int(require(raw, "num_heads")),
        out_hidden_size=int(require(raw, "out_hidden_size")),
        merger_size=int(require(raw, "intermediate_size")),
        image_size=int(require(raw, "image_size")),
        patch_size=int(require(raw, "patch_size")),
        temporal_patch_size=int(require(raw, "temporal_patch_size")),
        merge_size=int(require(raw, "spatial_merge_size")),
        rms_norm_eps=float(raw.get("rms_norm_eps", 1e-5)),
    )
