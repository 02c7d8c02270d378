"""Loading: every fault is named, memory stays bounded, nothing is skipped."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from autoglm.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    CorruptCheckpointError,
    UnsupportedCheckpointError,
)
from autoglm.model import resolve
from autoglm.model.loading import INDEX, load_checkpoint
from autoglm.model.resolve import resolve_checkpoint
from autoglm.model.synthetic import write_weights
from tests.model.conftest import config_of


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """A checkpoint to break."""
    return Path(shutil.copytree(tiny, tmp_path / "checkpoint"))


def first_shard(path: Path) -> Path:
    return sorted(path.glob("*.safetensors"))[0]


def truncate(path: Path) -> None:
    shard = first_shard(path)
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])


def remove_shard(path: Path) -> None:
    first_shard(path).unlink()


def drop_tensor(path: Path) -> None:
    tensors = load_file(first_shard(path))
    del tensors[min(tensors)]
    save_file(tensors, first_shard(path))


def add_tensor(path: Path) -> None:
    save_file(load_file(first_shard(path)) | {"model.stranger": torch.zeros(1)}, first_shard(path))


def reshape_tensor(path: Path) -> None:
    tensors = load_file(first_shard(path))
    name = min(tensors)
    tensors[name] = tensors[name][:-1].clone()
    save_file(tensors, first_shard(path))


def other_model(path: Path) -> None:
    (path / "config.json").write_text(json.dumps({"model_type": "llama"}))


def broken_json(path: Path) -> None:
    (path / "config.json").write_text("{")


def no_config(path: Path) -> None:
    (path / "config.json").unlink()


def empty_index(path: Path) -> None:
    (path / INDEX).write_text("{}")


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (truncate, CorruptCheckpointError, "cannot be read"),
        (remove_shard, CheckpointNotFoundError, "model-00001"),
        (drop_tensor, CorruptCheckpointError, "lacks 1 tensors"),
        (add_tensor, CorruptCheckpointError, "model.stranger"),
        (reshape_tensor, CorruptCheckpointError, "shape"),
        (other_model, UnsupportedCheckpointError, "llama"),
        (broken_json, CorruptCheckpointError, "config.json"),
        (no_config, CheckpointNotFoundError, "config.json"),
        (empty_index, CorruptCheckpointError, "weight_map"),
    ],
)
def test_faults(copy: Path, fault: Callable[[Path], None], error: type[CheckpointError], says: str) -> None:
    fault(copy)
    with pytest.raises(error, match=says):
        load_checkpoint(copy)


def test_progress_reaches_the_total(tiny: Path) -> None:
    seen: list[tuple[int, int]] = []
    load_checkpoint(tiny, progress=lambda done, total: seen.append((done, total)))
    assert len(seen) == len(list(tiny.glob("*.safetensors"))) > 2
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtype(tiny: Path, dtype: torch.dtype) -> None:
    assert {p.dtype for p in load_checkpoint(tiny, dtype=dtype).parameters()} == {dtype}


def test_tied_embeddings(tmp_path: Path) -> None:
    write_weights(tmp_path, config_of("tiny", tie_word_embeddings=True))
    loaded = load_checkpoint(tmp_path)
    assert loaded.lm_head.weight is loaded.decoder.embed_tokens.weight


def test_bytes_depend_on_the_seed_alone(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_weights(tmp_path / name, config_of("tiny"), seed=seed)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


MEASURE = """
import sys, threading, pathlib, torch
from autoglm.model.loading import load_checkpoint
from autoglm.model.quantized import load_quantized

def rss():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

peak, stop = 0, threading.Event()
def watch():
    global peak
    while not stop.wait(0.0005):
        peak = max(peak, rss())
torch.set_num_threads(1)
load_checkpoint(pathlib.Path(sys.argv[2]))
load_quantized(pathlib.Path(sys.argv[2]), "int8")
threading.Thread(target=watch, daemon=True).start()
for load in (lambda path: load_quantized(path, "int8", dtype=torch.float32), load_checkpoint):
    peak = before = rss()
    model = load(pathlib.Path(sys.argv[1]))
    print(peak - before, sum(t.nbytes for t in (*model.parameters(), *model.buffers())))
    del model
print(*sorted({name.partition(".")[2] for name in sys.modules if name.startswith("torch._dynamo")}))
"""


def test_peak_memory_is_weights_and_a_part_of_a_shard(tiny: Path, tmp_path: Path) -> None:
    shard, slack = 24 * 2**20, 32 * 2**20
    write_weights(tmp_path, config_of("small"), max_shard_bytes=shard)
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path), str(tiny)], capture_output=True, text=True, check=True
    )
    packed_line, line, modules = result.stdout.splitlines()
    peak, weights = map(int, line.split())
    assert weights > 8 * shard
    # A piece of a file more, and some slack for the allocator and the headers.
    assert peak < weights + shard + slack
    # Packed: beside them, one layer's floats and what packing takes of it; never the decoder's floats.
    peak, packed = map(int, packed_line.split())
    assert packed < weights
    assert peak < packed + shard + 2 * slack
    assert not modules, "an empty model has imported torch's compiler"


def test_missing_checkpoint_says_where_it_looked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AUTOGLM_MODEL_DIR", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointNotFoundError) as caught:
        resolve_checkpoint("autoglm-phone-9b")
    for part in ("autoglm-phone-9b", str(tmp_path), "zai-org/AutoGLM-Phone-9B", "AUTOGLM_MODEL_DIR"):
        assert part in caught.value.message


def test_a_name_is_found_in_the_model_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: Path) -> None:
    monkeypatch.setenv("AUTOGLM_MODEL_DIR", str(tmp_path))
    (tmp_path / "AutoGLM-Phone-9B").symlink_to(tiny)
    assert resolve_checkpoint("autoglm-phone-9b").samefile(tiny)
    assert resolve_checkpoint(tiny) == tiny


def test_the_packaged_model_has_its_place_in_the_package() -> None:
    (place,) = resolve._packaged(resolve.PACKAGED)
    assert place.parent.parent == Path(resolve.__file__).parents[1]
    assert place.name == resolve.PACKAGED
    assert resolve._packaged("autoglm-phone-9b") == []
