"""The profile: what was measured on a machine, and the engine options that follow."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import msgspec
from msgspec import Struct

from autoglm.errors import InvalidInputError
from autoglm.parallel.tuning.search import Measured

VERSION = 1


class Machine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a profile is valid for."""

    cpu: str
    cores: int

    @classmethod
    def here(cls) -> Machine:
        """This machine, and the cores this process may use."""
        info = Path("/proc/cpuinfo")
        lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        return cls(cpu=names[0] if names else platform.machine(), cores=len(os.sched_getaffinity(0)))


class Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tuning run.

    Attributes:
        model: name of the checkpoint that was measured.
        unit: of the rates, a second.
        engine: options of the engine, by name, that were fastest.
        speedup: of those beside one thread in one process, geometric mean over data sizes.
        measured, reduction: the model's rates, and those of the plain reduction.
        left_out: candidates that the time did not reach.
    """

    version: int = VERSION
    date: str
    machine: Machine
    model: str
    unit: str
    engine: dict[str, int]
    speedup: float
    measured: tuple[Measured, ...]
    reduction: tuple[Measured, ...]
    left_out: int = 0


def write_profile(profile: Profile, file: Path) -> None:
    """Replace ``file`` in one step."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(profile), indent=1) + b"\n")
    partial.replace(file)


def read_profile(file: Path) -> Profile:
    """Raises :class:`InvalidInputError` for a file that is no profile of this version."""
    try:
        profile = msgspec.json.decode(file.read_bytes(), type=Profile)
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidInputError(f"--profile: {file}: {error}", field="profile", value=str(file)) from error
    if profile.version != VERSION:
        raise InvalidInputError(
            f"--profile: {file} is of version {profile.version}; run autoglm tune again",
            field="profile",
            limit=VERSION,
            value=profile.version,
        )
    return profile


def mismatch(profile: Profile, here: Machine | None = None) -> str | None:
    """How this machine differs from the profile's; ``None`` if it does not."""
    here = here or Machine.here()
    if here == profile.machine:
        return None
    was = profile.machine
    return f"the profile is of {was.cores} cores of {was.cpu}, here are {here.cores} cores of {here.cpu}"
