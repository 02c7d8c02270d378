"""Packed weights on disk: found by content, made again when damaged, never in the way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autoglm.errors import InvalidInputError
from autoglm.model.quantized import load_quantized
from autoglm.model.quantized.linear import quantized_names
from autoglm.model.quantized.store import KEPT, QuantizedStore
from autoglm.model.registry import Model
from autoglm.synthetic import make_phone_checkpoint


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phone_checkpoint(tmp_path_factory.mktemp("phone"))


def no_packing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("packed again")

    monkeypatch.setattr("autoglm.model.quantized.loading.quantize", refuse)


def same(one: Model, other: Model) -> bool:
    left, right = (dict([*m.named_parameters(), *m.named_buffers()]) for m in (one, other))
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_second_load_reads_what_the_first_packed(phone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = load_quantized(phone, "int4", store=tmp_path, dtype=torch.float32)
    no_packing(monkeypatch)
    stored = load_quantized(phone, "int4", store=tmp_path, dtype=torch.float32)
    assert same(fresh, stored)
    with pytest.raises(AssertionError, match="packed again"):  # another scheme is another file
        load_quantized(phone, "int8", store=tmp_path, dtype=torch.float32)


@pytest.mark.parametrize("damage", ["flipped bit", "cut off", "no digest", "not ours"])
def test_damaged_files_are_made_again(phone: Path, tmp_path: Path, damage: str) -> None:
    fresh = load_quantized(phone, "int8", store=tmp_path, dtype=torch.float32)
    (file,) = tmp_path.glob("*.safetensors")
    original = file.read_bytes()
    data = bytearray(original)
    if damage == "flipped bit":
        data[-7] ^= 1
        file.write_bytes(data)
    elif damage == "cut off":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "no digest":
        file.with_suffix(".sha256").unlink()
    else:
        QuantizedStore(tmp_path).write(file, {"model.language_model.layers.0.mlp.down_proj.packed": torch.zeros(1)})
    again = load_quantized(phone, "int8", store=tmp_path, dtype=torch.float32)
    assert same(fresh, again)
    assert file.read_bytes() == original


def test_another_checkpoint_is_another_file(phone: Path, tmp_path: Path) -> None:
    other = make_phone_checkpoint(tmp_path / "other", seed=1)
    store = QuantizedStore(tmp_path / "store")
    assert store.file_of(phone, "int8") != store.file_of(other, "int8") != store.file_of(other, "int4")


def test_few_files_are_kept(tmp_path: Path) -> None:
    store = QuantizedStore(tmp_path)
    files = [tmp_path / f"{i}.safetensors" for i in range(KEPT + 2)]
    for file in files:
        store.write(file, {"x": torch.zeros(1)})
    assert len(list(tmp_path.iterdir())) == 2 * KEPT  # each with its digest
    assert store.read(files[-1], lambda tensors: [name for name, _ in tensors] == ["x"])


def test_a_folder_that_cannot_be_written_costs_only_time(phone: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    model = load_quantized(phone, "int8", store=tmp_path / "file" / "store", dtype=torch.float32)
    assert all(model.get_submodule(n).scheme == "int8" for n in quantized_names(model))


def test_no_such_scheme(phone: Path) -> None:
    with pytest.raises(InvalidInputError, match="quantization"):
        load_quantized(phone, "int2")
