"""The quick forms of the dialogue benchmarks: the same answers either way, and figures that add up."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoglm.model.autoglm_phone.config import FusionConfig, PhoneTextConfig, PhoneVisionConfig
from autoglm.synthetic import make_phone_checkpoint
from benchmarks import early_encode, idle_prefill, results, sharing
from benchmarks.dialogues import Script

SHORT = Script(steps=3, new_tokens=4, system_words=40, turn_words=8, side=112)


def test_the_bytes_are_those_of_the_described_shapes() -> None:
    text, vision, fusion = PhoneTextConfig(), PhoneVisionConfig(), FusionConfig()
    size = sharing.Bytes.of_reference()
    assert size.token == 2 * 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim
    keys_values = 2 * 2 * len(fusion.layers) * fusion.num_kv_heads * vision.num_tokens * fusion.head_dim
    assert size.gate == 2 * vision.num_tokens * fusion.gate_rank
    assert size.image == keys_values + size.gate
    assert size.total(10, 2, shared=True) == 10 * size.token + 2 * size.image
    assert size.total(0, 1, shared=False) - size.total(0, 1, shared=True) == size.gate * (len(fusion.layers) - 1)


def test_sharing_counts_each_thing_once(tmp_path: Path) -> None:
    checkpoint = make_phone_checkpoint(tmp_path / "phone")
    alone, shared = (sharing.count(checkpoint, SHORT, 2, shared=value) for value in (False, True))
    assert alone.tokens == shared.tokens
    assert (alone.kept_images, shared.kept_images) == (2 * 3, 2)  # each step's screen; the newest of each session
    assert shared.kept_tokens < alone.kept_tokens / 2
    rows = sharing.rows_of({"independent": [alone], "shared": [shared]}, sharing.Bytes.of_reference(), "case")
    assert not [problem for row in rows for problem in results.row_problems(row)]
    kept = next(r for r in rows if r.subject == "shared" and r.metric == "memory kept, 9 B")
    assert kept.ratio is not None
    assert kept.ratio > 2
    with pytest.raises(ValueError, match="single phone"):
        idle_prefill.play(None, [None, None], 1.0)  # type: ignore[arg-type,list-item]


def test_idle_prefill_answers_alike(checkpoint: Path) -> None:
    case = idle_prefill.Case("tiny", lambda path: path, SHORT, 0)
    rows, differ = idle_prefill.measure("tiny", case, SHORT, checkpoint, 1)
    assert not differ
    found = {(row.case, row.subject, row.metric): row.value for row in rows}
    for pause in ("tiny, think 1 s", "tiny, think 0 s"):  # how much is done in it depends on the machine
        assert found[pause, "on", "hits"] <= found[pause, "on", "predictions"]
        assert found[pause, "on", "saved"] <= found[pause, "on", "computed ahead"]
        assert found[pause, "on", "tokens to compute"] <= found[pause, "off", "tokens to compute"]


def test_early_encoding_answers_alike(checkpoint: Path) -> None:
    case = early_encode.Case("tiny", lambda path: path, screens=2, side=112, words=20)
    rows, differ = early_encode.measure("tiny", case, checkpoint, 1)
    assert not differ
    assert not [problem for row in rows for problem in results.row_problems(row)]
    found = {(row.subject, row.metric): row.value for row in rows}
    assert found["on", "used"] == found["on", "early encodes"] <= 2 * 2  # how many depends on the machine
    assert found["off", "built"] > 0
