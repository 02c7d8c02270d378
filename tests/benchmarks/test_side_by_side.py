"""The quick form of the side by side, end to end: subject processes, result file, report."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks import report, results
from benchmarks.results import Result, Row
from benchmarks.rows import with_section
from benchmarks.side_by_side import ROOT


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A benchmark script in a process of its own, in the source tree, installed or not."""
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def result_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    out = folder / "side_by_side.json"
    arguments = ["--quick", "--subjects", "autoglm", "transformers", "--cache", str(folder), "--out", str(out)]
    done = run("side_by_side", *arguments)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def result(result_file: Path) -> Result:
    return results.read(result_file)


def value(result: Result, case: str, subject: str, metric: str) -> float:
    (row,) = (r for r in result.rows if (r.case, r.subject, r.metric) == (case, subject, metric))
    return row.value


def test_every_subject_has_every_metric_of_every_case(result: Result) -> None:
    def found(subject: str) -> set[tuple[str, str]]:
        own = {"greedy tokens as baseline"}
        return {(r.case, r.metric) for r in result.rows if r.subject == subject and r.metric not in own}

    assert found("autoglm") == found("transformers")
    assert {case for case, _ in found("autoglm")} == {"a", "b", "c", "d", "load", "memory"}
    assert result.failures == []


@pytest.mark.parametrize("case", "abcd")
def test_greedy_tokens_are_those_of_the_baseline(result: Result, case: str) -> None:
    assert value(result, case, "autoglm", "greedy tokens as baseline") == 1.0


def test_the_dialogue_reuses_all_text_before_the_dropped_screenshot(result: Result) -> None:
    for step in (2, 3):
        # Step k shares the system prompt (64), k - 2 finished turns of 22 tokens, and its own turn's `<|user|>\n`.
        assert value(result, "c", "autoglm", f"reused step {step}") >= 64 + (step - 2) * 22
        assert value(result, "c", "transformers", f"reused step {step}") == 0


def test_the_baseline_has_no_ratio_and_the_others_do(result: Result) -> None:
    for row in result.rows:
        if row.metric in ("TTFT", "decode", "throughput"):
            assert (row.ratio is None) == (row.subject == "transformers")


def test_report_writes_page_plot_and_figures(result: Result, result_file: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- bench:start -->\nold\n<!-- bench:end -->\nafter\n", encoding="utf-8")
    done = run("report", "--result", str(result_file), "--docs", str(tmp_path), "--readme", str(readme))
    assert done.returncode == 0, done.stderr
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert report.figures(result) in text
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert result.commit in page
    assert all(f"### Case {case}" in page for case in "abcd")
    assert "| `side_by_side.json` |" in page
    assert "share of the bound" in page
    for drawn in (report.PLOT, report.DECODE_PLOT):
        assert (tmp_path / drawn).read_text(encoding="utf-8").startswith("<?xml")


def test_a_subject_that_fails_is_named_and_the_others_go_on(result_file: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "tiny"
    shutil.copytree(result_file.parent / "checkpoints" / "tiny", checkpoint)
    (checkpoint / "chat_template.jinja").unlink()  # the engine refuses such a checkpoint, the baseline does not
    out = tmp_path / "out.json"
    arguments = ["--quick", "--subjects", "autoglm", "transformers", "--cases", "a"]
    done = run("side_by_side", *arguments, "--checkpoints", str(tmp_path), "--cache", str(tmp_path), "--out", str(out))
    assert done.returncode == 1, done.stderr
    partial = results.read(out)
    assert [(f.subject, f.case) for f in partial.failures] == [("autoglm", "load")]
    assert "template" in partial.failures[0].reason
    assert value(partial, "a", "transformers", "TTFT") > 0
    assert "## Without a result\n\n- autoglm, tiny" in report.page(partial, partial, [partial])


def make_row(**changes: object) -> Row:
    fields: dict[str, object] = {
        "case": "a",
        "subject": "autoglm",
        "metric": "TTFT",
        "value": 1.0,
        "unit": "s",
        "baseline": "transformers",
        "ratio": 2.0,
        "best": 1.0,
        "repetitions": 1,
        "size": "tiny",
        "threads": 1,
    }
    return msgspec.convert({**fields, **changes}, Row)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unit": "furlong"}, "unknown unit"),
        ({"value": float("nan")}, "finite"),
        ({"ratio": -1.0}, "not negative"),
        ({"repetitions": 0}, "start at 1"),
    ],
)
def test_bad_rows_are_refused(result: Result, tmp_path: Path, changes: dict[str, object], said: str) -> None:
    bad = msgspec.structs.replace(result, rows=[make_row(**changes)])
    with pytest.raises(ValueError, match=said):
        results.write(bad, tmp_path / "bad.json")
    assert not list(tmp_path.iterdir())


def test_rows_that_say_the_same_thing_twice_are_refused(result: Result) -> None:
    with pytest.raises(ValueError, match="twice"):
        results.validate(msgspec.structs.replace(result, rows=[make_row(), make_row(value=2.0)]))


def test_unknown_keys_in_a_result_file_are_refused(result_file: Path, tmp_path: Path) -> None:
    plain = msgspec.json.decode(result_file.read_bytes())
    plain["rows"][0]["note"] = "fast"
    other = tmp_path / "other.json"
    other.write_bytes(msgspec.json.encode(plain))
    with pytest.raises(msgspec.ValidationError, match="note"):
        results.read(other)


_START, _END = "<!-- bench:start -->", "<!-- bench:end -->"


@pytest.mark.parametrize("text", ["", f"{_END}{_START}", f"{_START}{_START}{_END}"])
def test_a_readme_without_the_markers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="bench:start"):
        with_section(text, "bench", "new")


def test_the_sentence_on_a_gpu_is_of_its_result() -> None:
    result = results.read(ROOT / "benchmarks" / "results" / "gpu.json")
    step = next(r for r in result.rows if (r.case, r.subject, r.metric) == ("glm4v TPOT of 8", "autoglm", "latency"))
    assert f"{step.value:.1f}" in report.gpu_figures(result)
    assert result.settings["device"] in report.gpu_figures(result)
