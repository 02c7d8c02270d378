"""The workload is exact in tokens, the same every time, and survives its file."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image
from tokenizers import Tokenizer

from autoglm.prompt.synthetic import write_tokenizer
from benchmarks import workload
from benchmarks.workload import FULL, IMAGE, Case


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return folder / "tokenizer.json"


@pytest.fixture(scope="module")
def cases(tokenizer_file: Path) -> dict[str, Case]:
    return {case.name: case for case in workload.build(tokenizer_file, FULL)}


def test_lengths_are_exact(cases: dict[str, Case], tokenizer_file: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tokenizer_file))

    def lengths(name: str) -> list[int]:
        return [len(tokenizer.encode(r.text, add_special_tokens=False).ids) for r in cases[name].requests]

    assert lengths("a") == [512]
    assert lengths("b") == [256 + 3]
    assert lengths("d") == [512] * 8
    first, *rest = lengths("c")
    # The image mark is three tokens here and 256 + 2 in a model's prompt.
    assert first + 255 == 902
    assert rest == [first + 92 * step for step in range(1, 6)]


def test_dialogue_holds_one_image_each_step_and_they_differ(cases: dict[str, Case]) -> None:
    requests = cases["c"].requests
    assert [r.text.count(IMAGE) for r in requests] == [1] * 6
    assert len({r.images for r in requests}) == 6
    assert Image.open(io.BytesIO(requests[0].images[0])).size == (448, 448)


def test_history_is_kept_up_to_the_dropped_image(cases: dict[str, Case]) -> None:
    texts = [r.text for r in cases["c"].requests]
    for before, after in pairwise(texts):
        assert after.startswith(before[: before.index(IMAGE)])


def test_concurrent_prompts_are_all_different(cases: dict[str, Case]) -> None:
    assert cases["d"].concurrent
    assert len({r.text for r in cases["d"].requests}) == 8


def test_same_every_time_and_through_the_file(cases: dict[str, Case], tokenizer_file: Path, tmp_path: Path) -> None:
    again = workload.build(tokenizer_file, FULL)
    assert again == list(cases.values())
    workload.dump(again, tmp_path / "cases.json")
    assert workload.load(tmp_path / "cases.json") == again


def test_warm_up_shares_no_beginning_with_a_measured_prompt(cases: dict[str, Case]) -> None:
    start = len("[gMASK]<sop><|user|>\n")
    measured = [r.text[start : start + 8] for case in cases.values() for r in case.requests]
    requests = [r for case in workload.warm_up(list(cases.values())) for r in case.requests]
    assert len(requests) == 2 + 8
    for request in requests:
        assert request.text[start : start + 8] not in measured
