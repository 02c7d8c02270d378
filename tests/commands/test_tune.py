"""``autoglm tune`` on a real checkpoint, and what ``serve`` makes of its profile."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec
import pytest

from autoglm.cli import main
from autoglm.commands.options import add_engine_options, engine_config
from autoglm.errors import InvalidInputError
from autoglm.parallel.tuning.profile import Machine, Profile, mismatch, read_profile, write_profile


def profile(engine: dict[str, int], machine: Machine | None = None) -> Profile:
    return Profile(
        date="2026-01-01T00:00:00+00:00",
        machine=machine or Machine.here(),
        model="tiny",
        unit="tokens",
        engine=engine,
        speedup=1.5,
        measured=(),
        reduction=(),
    )


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_engine_options(parser)
    return parser.parse_args(words)


def test_measure_write_and_plot(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, picture = tmp_path / "profile.json", tmp_path / "curves.svg"
    few = ["--threads", "1", "2", "--tensor-parallel", "1", "--pipeline-parallel", "1", "--requests", "1"]
    load = ["--prompt-tokens", "32", "--new-tokens", "2", "--seconds", "120"]
    assert main(["tune", str(checkpoint), *few, *load, "--out", str(out), "--plot", str(picture)]) == 0
    found = read_profile(out)
    assert {m.candidate.threads for m in found.measured} == {1, 2}
    assert all(m.rate > 0 for m in (*found.measured, *found.reduction))
    assert found.engine["threads"] in (1, 2)
    assert "<svg" in picture.read_text(encoding="utf-8")
    text = capsys.readouterr().out
    assert "workers" in text
    assert "plain reduction" in text
    assert engine_config(parsed(), out).threads == found.engine["threads"]


def test_a_profile_gives_way_to_options(tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    write_profile(profile({"threads": 3, "tensor_parallel_size": 2}), file)
    found = engine_config(parsed("--threads", "5"), file)
    assert (found.threads, found.tensor_parallel_size) == (5, 2)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"version": 1, "surprise": 2}', None])
def test_what_is_no_profile_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "profile.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidInputError, match="--profile"):
        read_profile(file)


def test_profiles_of_other_times_and_places(tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    write_profile(msgspec.structs.replace(profile({}), version=99), file)
    with pytest.raises(InvalidInputError, match="version"):
        read_profile(file)
    write_profile(profile({"warp": 9}), file)
    with pytest.raises(InvalidInputError, match="warp"):
        engine_config(parsed(), file)
    assert mismatch(profile({})) is None
    assert "1000 cores" in (mismatch(profile({}, Machine(cpu="other", cores=1000))) or "")


def test_mistakes_are_one_line(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(checkpoint), "--seconds", "0"]) == 2
    assert "--seconds" in capsys.readouterr().err
