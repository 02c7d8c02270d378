"""Configuration of the ``autoglm_phone`` layout, read strictly from a checkpoint's ``config.json``.

:func:`reference_config` is the 9 B model: a ViT of 1.2 B parameters that makes 576 visual tokens of an image, and a
decoder of 7.8 B with eight gated cross-attention modules in its deeper half and a context of 8192.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import isqrt
from typing import Any, TypeVar, get_type_hints

from autoglm.errors import UnsupportedCheckpointError
from autoglm.model.config import TextConfig, VisionConfig, stop_ids

MODEL_TYPE = "autoglm_phone"
_DESCRIPTIVE = frozenset({"architectures", "dtype", "torch_dtype", "transformers_version"})
"""Keys that describe the file and change nothing that is computed."""
_SECTIONS = frozenset({"model_type", "text_config", "vision_config", "fusion_config"})
_OPTIONAL = frozenset({"stem_channels"})
"""Keys that came later; a file without them means the default."""
_TOP = frozenset({"image_token_id", "turn_start_token_ids", "eos_token_id", "pad_token_id"})
C = TypeVar("C", bound="PhoneTextConfig | PhoneVisionConfig | FusionConfig")


@dataclass(frozen=True, slots=True)
class PhoneTextConfig:
    """``text_config``: the decoder without its cross-attention."""

    vocab_size: int = 151552
    hidden_size: int = 4096
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 2
    head_dim: int = 128
    intermediate_size: int = 13056
    max_position_embeddings: int = 8192
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    partial_rotary_factor: float = 0.5

    def decoder(self) -> TextConfig:
        """For the shared decoder. Positions are plain sequential, so one axis carries all frequency pairs."""
        rotary = int(self.head_dim * self.partial_rotary_factor)
        _check(rotary % 2 == 0 and 0 < rotary <= self.head_dim, "text_config.partial_rotary_factor", rotary)
        _check(
            self.num_attention_heads % self.num_key_value_heads == 0,
            "text_config.num_key_value_heads",
            self.num_key_value_heads,
        )
        return TextConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_layers=self.num_hidden_layers,
            num_heads=self.num_attention_heads,
            num_kv_heads=self.num_key_value_heads,
            head_dim=self.head_dim,
            intermediate_size=self.intermediate_size,
            max_position_embeddings=self.max_position_embeddings,
            rms_norm_eps=self.rms_norm_eps,
            rope_theta=self.rope_theta,
            rotary_dim=rotary,
            mrope_section=(rotary // 2, 0, 0),
        )


@dataclass(frozen=True, slots=True)
class PhoneVisionConfig:
    """``vision_config``: the ViT.

    Attributes:
        num_tokens: patches of every image, a square number.
        stem_channels: channels of a convolutional stem's stages, each of which halves the resolution, so that
            ``patch_size`` is ``2 ** len(stem_channels)``; empty: a linear map of each patch.
    """

    hidden_size: int = 2048
    depth: int = 26
    num_heads: int = 16
    intermediate_size: int = 4608
    patch_size: int = 14
    num_tokens: int = 576
    in_channels: int = 3
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    stem_channels: tuple[int, ...] = ()

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    def blocks(self) -> VisionConfig:
        """For the shared blocks and position table; one frame, nothing merged."""
        _check(isqrt(self.num_tokens) ** 2 == self.num_tokens, "vision_config.num_tokens", self.num_tokens)
        _check(self.hidden_size % (4 * self.num_heads) == 0, "vision_config.num_heads", self.num_heads)
        fits = not self.stem_channels or (
            self.patch_size == 2 ** len(self.stem_channels) and min(self.stem_channels) > 0
        )
        _check(fits, "vision_config.stem_channels", str(list(self.stem_channels)))
        return VisionConfig(
            hidden_size=self.hidden_size,
            depth=self.depth,
            num_heads=self.num_heads,
            out_hidden_size=self.intermediate_size,
            merger_size=0,
            image_size=isqrt(self.num_tokens) * self.patch_size,
            patch_size=self.patch_size,
            temporal_patch_size=1,
            merge_size=1,
            rms_norm_eps=self.rms_norm_eps,
            in_channels=self.in_channels,
        )


@dataclass(frozen=True, slots=True)
class FusionConfig:
    """``fusion_config``: the decoder layers that read the image, and the rank of the time gate."""

    layers: tuple[int, ...] = (16, 18, 20, 22, 24, 26, 28, 30)
    num_heads: int = 32
    num_kv_heads: int = 2
    head_dim: int = 128
    gate_rank: int = 128


@dataclass(frozen=True, slots=True)
class AutoGLMPhoneConfig:
    """A whole ``autoglm_phone`` checkpoint.

    Attributes:
        turn_start_token_ids: ``<|system|>``, ``<|user|>``, ``<|observation|>``: where what a token may see changes.
        stop_token_ids: ``eos_token_id`` of ``generation_config.json``, else of ``config.json``.
    """

    text: PhoneTextConfig
    vision: PhoneVisionConfig
    fusion: FusionConfig
    image_token_id: int
    turn_start_token_ids: tuple[int, ...]
    stop_token_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        f = self.fusion
        layers = self.text.num_hidden_layers
        ordered = all(a < b for a, b in zip((-1, *f.layers), (*f.layers, layers), strict=True))
        _check(bool(f.layers) and ordered, "fusion_config.layers", str(list(f.layers)))
        _check(f.num_heads % f.num_kv_heads == 0, "fusion_config.num_kv_heads", f.num_kv_heads)
        _check(
            bool(self.turn_start_token_ids)
            and all(0 <= i < self.text.vocab_size for i in (self.image_token_id, *self.turn_start_token_ids)),
            "turn_start_token_ids and image_token_id",
            str([self.image_token_id, *self.turn_start_token_ids]),
        )

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], generation: Mapping[str, Any] | None = None) -> AutoGLMPhoneConfig:
        """Parse ``config.json`` and ``generation_config.json``.

        Raises:
            UnsupportedCheckpointError: another model type, or a key that is missing, unknown or of the wrong type.
        """
        if raw.get("model_type") != MODEL_TYPE:
            raise UnsupportedCheckpointError(
                f"model_type is {raw.get('model_type')!r}, expected {MODEL_TYPE!r}", field="model_type"
            )
        _known(raw, _DESCRIPTIVE | _SECTIONS | _TOP, "config.json")
        return cls(
            text=_section(PhoneTextConfig, raw, "text_config"),
            vision=_section(PhoneVisionConfig, raw, "vision_config"),
            fusion=_section(FusionConfig, raw, "fusion_config"),
            image_token_id=_typed(raw.get("image_token_id"), int, "image_token_id"),
            turn_start_token_ids=_typed(raw.get("turn_start_token_ids"), tuple[int, ...], "turn_start_token_ids"),
            stop_token_ids=stop_ids(generation or {}, raw),
        )


def reference_config() -> dict[str, Any]:
    """``config.json`` of the 9 B model, with the token ids of the GLM-4 vocabulary."""
    return {
        "model_type": MODEL_TYPE,
        "dtype": "bfloat16",
        "text_config": section_dict(PhoneTextConfig()),
        "vision_config": section_dict(PhoneVisionConfig()),
        "fusion_config": section_dict(FusionConfig()),
        "image_token_id": 151343,
        "turn_start_token_ids": [151335, 151336, 151338],
        "eos_token_id": [151329, 151336, 151338, 151348],
        "pad_token_id": 151329,
    }


def section_dict(section: PhoneTextConfig | PhoneVisionConfig | FusionConfig) -> dict[str, Any]:
    """A section as it stands in ``config.json``."""
    values = {f.name: getattr(section, f.name) for f in fields(section)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _section(kind: type[C], raw: Mapping[str, Any], name: str) -> C:
    section = raw.get(name)
    if not isinstance(section, Mapping):
        raise UnsupportedCheckpointError(f"config.json needs the object {name}", field=name)
    hints = get_type_hints(kind)
    known = frozenset(f.name for f in fields(kind))
    _known(section, known, name)
    given = known - {key for key in _OPTIONAL if key not in section}
    return kind(**{key: _typed(section.get(key), hints[key], f"{name}.{key}") for key in given})


def _known(raw: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    unknown = sorted(set(raw) - known)
    if unknown:
        raise UnsupportedCheckpointError(
            f"{where} has the unknown key {unknown[0]}; it knows {', '.join(sorted(known))}", field=unknown[0]
        )


def _typed(value: Any, kind: Any, name: str) -> Any:
    """``value`` as ``kind``: a whole number that is not negative, a positive number, or a list of the former."""
    if kind is int and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return float(value)
    if kind == tuple[int, ...] and isinstance(value, list | tuple):
        return tuple(_typed(item, int, name) for item in value)
    wanted = {int: "a whole number", float: "a positive number"}.get(kind, "a list of whole numbers")
    raise UnsupportedCheckpointError(f"{name} must be {wanted}, found {str(value)[:60]}", field=name)


def _check(good: bool, field: str, value: int | str) -> None:
    if not good:
        raise UnsupportedCheckpointError(f"{field} does not fit the rest of the configuration: {value}", field=field)
