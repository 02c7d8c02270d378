"""What ``preprocessor_config.json`` says about images, read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoglm.errors import CheckpointNotFoundError, CorruptCheckpointError, UnsupportedCheckpointError
from autoglm.prompt.files import read_json

_BICUBIC = 3
_DESCRIPTIVE = frozenset(
    {
        "auto_map",
        "default_to_square",
        "device",
        "disable_grouping",
        "feature_extractor_type",
        "image_processor_type",
        "input_data_format",
        "processor_class",
        "return_tensors",
        "transformers_version",
        "_processor_class",
        "_valid_processor_keys",
    }
)
_FIXED: dict[str, tuple[object, ...]] = {
    "resample": (_BICUBIC, None),
    "do_resize": (True,),
    "do_rescale": (True,),
    "do_normalize": (True,),
    "do_convert_rgb": (True, None),
    "data_format": ("channels_first", None),
}
_OWN = frozenset(
    {"size", "patch_size", "temporal_patch_size", "merge_size", "rescale_factor", "image_mean", "image_std"}
)


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """Options of the published image processor; defaults are those of CLIP and of the glm4v class.

    Attributes:
        shortest_edge, longest_edge: budgets for ``temporal_patch_size * height * width`` in pixels, despite
            their names. As a still image counts twice, the cap on its own area is half of ``longest_edge``.
        rescale_factor: applied to 0..255 before ``(x - image_mean) / image_std`` per channel.
    """

    shortest_edge: int = 112 * 112
    longest_edge: int = 28 * 28 * 15000
    patch_size: int = 14
    temporal_patch_size: int = 2
    merge_size: int = 2
    rescale_factor: float = 1 / 255
    image_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    image_std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    @classmethod
    def from_directory(cls, directory: str | Path) -> ImageOptions:
        """From ``preprocessor_config.json``, or the ``image_processor`` part of ``processor_config.json``.

        Raises:
            CheckpointNotFoundError: neither file says anything about images.
            CorruptCheckpointError, UnsupportedCheckpointError: see :meth:`from_dict`.
        """
        path = Path(directory) / "preprocessor_config.json"
        if path.is_file():
            return cls.from_dict(read_json(path))
        combined = path.with_name("processor_config.json")
        if combined.is_file():
            part = read_json(combined).get("image_processor")
            if isinstance(part, dict):
                return cls.from_dict(part)
        raise CheckpointNotFoundError(
            f"neither {path.name} nor an image_processor in {combined.name} found in {directory}",
            field=path.name,
            value=str(path),
        )

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> ImageOptions:
        """Raises :class:`UnsupportedCheckpointError` for a setting this processor would have to ignore."""
        size = raw.get("size") or {}
        if not isinstance(size, Mapping):
            raise CorruptCheckpointError("size must be an object", field="size", value=str(size))
        _refuse_unknown(raw, size)
        values: dict[str, Any] = {}
        for name, source in (
            ("shortest_edge", size),
            ("longest_edge", size),
            ("patch_size", raw),
            ("temporal_patch_size", raw),
            ("merge_size", raw),
        ):
            if source.get(name) is not None:
                values[name] = _positive_int(name, source[name])
        if raw.get("rescale_factor") is not None:
            values["rescale_factor"] = float(_number("rescale_factor", raw["rescale_factor"]))
        for name in ("image_mean", "image_std"):
            if raw.get(name) is not None:
                values[name] = _channels(name, raw[name])
        return cls(**values)


def _refuse_unknown(raw: Mapping[str, Any], size: Mapping[str, Any]) -> None:
    for name, allowed in _FIXED.items():
        if name in raw and raw[name] not in allowed:
            raise UnsupportedCheckpointError(
                f"image processor option {name}={raw[name]!r} is not supported",
                field=name,
                limit=str(allowed[0]),
                value=str(raw[name]),
            )
    for name, value in raw.items():
        if name in _OWN or name in _FIXED or name in _DESCRIPTIVE or value is None or value is False:
            continue
        # The reference accepts these two and does nothing with them; only an agreeing value has one meaning.
        if (name, value) in (
            ("max_pixels", size.get("longest_edge")),
            ("min_pixels", size.get("shortest_edge")),
        ):
            continue
        raise UnsupportedCheckpointError(
            f"image processor option {name}={str(value)[:40]} is not supported",
            field=name,
            value=str(value)[:40],
        )


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CorruptCheckpointError(f"{name} must be a number", field=name, value=str(value)[:40])
    return value


def _positive_int(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise CorruptCheckpointError(f"{name} must be a positive integer", field=name, limit=1, value=str(value)[:40])
    return value


def _channels(name: str, value: object) -> tuple[float, float, float]:
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise CorruptCheckpointError(f"{name} must hold three numbers", field=name, limit=3, value=str(value)[:40])
    red, green, blue = (float(_number(name, item)) for item in value)
    if name == "image_std" and 0.0 in (red, green, blue):
        raise CorruptCheckpointError("image_std must not be zero", field=name, value=str(value)[:40])
    return red, green, blue
