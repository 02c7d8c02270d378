"""The house rules that a machine can check: imports point downwards, files and functions stay small."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "autoglm"
LOW = {"errors", "env"}
MAY_IMPORT = {
    "messages": LOW,
    "agent": LOW,
    "cache": LOW,
    "parallel": LOW,
    "model": LOW | {"parallel"},  # the communication interface and the plans, see below
    "prompt": LOW | {"messages", "cache"},  # cache: its first level holds processed images and tokenised text
    "engine": LOW | {"messages", "cache", "parallel", "model", "prompt"},
    "server": LOW | {"messages", "agent", "cache"},  # cache: what is reused; it knows no HTTP and no tensors there
    "library": LOW | {"model", "prompt"},
    "commands": LOW | {"messages", "parallel", "model", "prompt", "engine", "server", "agent"},
}
FILES = sorted(SOURCE.rglob("*.py"))


def rooms_of(file: Path) -> set[str]:
    """Rooms of ours that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("autoglm."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "autoglm":
            found |= {alias.name for alias in node.names if (SOURCE / alias.name).exists()}
    return found


def modules_of(file: Path, room: str) -> set[str]:
    """Modules of one of our rooms that a file imports."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    found = {n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module}
    return {module for module in found if module.startswith(f"autoglm.{room}")}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_downwards(room: str) -> None:
    for file in (SOURCE / room).rglob("*.py"):
        assert rooms_of(file) <= MAY_IMPORT[room] | {room}, file


def test_the_model_knows_of_communication_only() -> None:
    for file in (SOURCE / "model").rglob("*.py"):
        assert modules_of(file, "parallel") <= {"autoglm.parallel.collectives", "autoglm.parallel.tensor"}, file


def test_every_room_is_listed() -> None:
    assert {d.name for d in SOURCE.iterdir() if d.is_dir() and any(d.glob("*.py"))} == set(MAY_IMPORT)


def test_files_stay_small() -> None:
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert max(lengths.values()) <= 500
    assert statistics.median(lengths.values()) <= 120


def test_functions_stay_small() -> None:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{file}: {node.name}"


def test_no_torch_in_the_server() -> None:
    for file in (SOURCE / "server").rglob("*.py"):
        assert "torch" not in file.read_text(encoding="utf-8"), file
