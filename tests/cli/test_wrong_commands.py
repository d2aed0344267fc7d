"""Wrong commands: what is wrong, where, and what to do, in one message and without a traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from builders import run_demo, write_job, write_prompts

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a job, its prompts, files of truths, and the demo's store in `demo/out`."""
    folder = tmp_path_factory.mktemp("wrong")
    run_demo(folder / "demo" / "out")
    write_prompts(folder, {"text": ["x"]})
    write_job(folder, "http://127.0.0.1:9/v1")
    (folder / "ragged.csv").write_text("prompt_id,correct\n1,2,3\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "scores job.toml",
            "no store at job.toml: it is a file. A store is a folder, which `store.path`",
        ),
        ("status demo", "no store at demo: it has no runs/ folder, but demo/out has"),
        ("scores demo/out --run x", "no run 'x' in this store; it has: demo"),
        (
            "scores demo/out --calibrated x",
            "none was saved yet; `logprobs calibrate STORE --expected COLUMN --method isotonic",
        ),
        ("labels demo/out --labels Yes,,No", "--labels 'Yes,,No': a label is empty: write one comma between two"),
        ("labels demo/out --labels Yes,No --after=", "--after '': after '': an empty text is everywhere"),
        ("calibrate demo/out --expected capital --confidence perplexity", "--confidence perplexity: "),
        ("calibrate demo/out --truth ragged.csv", "ragged.csv cannot be read: found more fields than defined"),
        (
            "run job.toml --run ..",
            "run name '..': use letters, digits, '.', '_' and '-', at most 128 of them, and not",
        ),
        ("run job.toml --store job.toml", "/job.toml is a file: name a folder, which need not be there yet"),
        ("run job.toml --store job.toml --dry-run", "/job.toml is a file: name a folder, which need not be there yet"),
        ("run job.toml --run a/b", "--run: run name 'a/b': use letters"),
        ("run job.toml --run a/b --dry-run", "--run: run name 'a/b': use letters"),
        ("run job.toml --store job.toml", "which need not be there yet (--store)"),
        ("run job.toml --base-url ftp://h/v1", "logprobs: --base-url: has to begin with http:// or https://"),
        ("record job.toml --fixtures f --base-url ftp://h/v1", "logprobs: --base-url: has to begin with http://"),
        ("run job.toml --base-url http://h:99999/v1", "logprobs: --base-url has a port that is no number"),
        (
            "run job.toml --base-url http://u:p@h/v1",
            "--base-url holds a user name or password, which cannot",
        ),
        ("run job.toml --transport replay", "logprobs: --transport replay needs --fixtures, a file or folder of"),
        ("run job.toml --select changed", "logprobs: --select changed needs id, the column by which a prompt is found"),
        ("scores demo/out -n 0", "it has to be at least 1"),
        ("scores demo/out -n ten", "it has to be a whole number"),
        ("compare demo/out --max-js much", "it has to be a number"),
        ("run job.toml --transport slow", "'slow' is not one of"),
        ("run demo", "demo: cannot be read: Is a directory; name the job file in it"),
    ],
)
def test_a_wrong_command_says_what_to_do(
    folder: Path, logprobs: Any, monkeypatch: pytest.MonkeyPatch, words: str, said: str
) -> None:
    """Exit code 2, and a message on standard error alone."""
    monkeypatch.chdir(folder)
    done = logprobs(*words.split())

    assert done.code == 2
    assert said in done.err
    assert done.out == ""
    assert "Input should" not in done.err
    assert "Value error" not in done.err


def test_the_reason_of_a_stop_names_the_option_that_gave_the_server(
    tmp_path: Path, logprobs: Any, fault_server: Any
) -> None:
    """What to change stands on the command line; without the option it stands in the job file."""
    fault_server.script("404*9")
    write_prompts(tmp_path, {"text": ["x"]})
    job = write_job(tmp_path, fault_server.url)

    by_option = logprobs("run", job, "--base-url", fault_server.url, "--run", "option").out
    by_job = logprobs("run", job, "--run", "job").out

    assert "Change what the job asks (model.name, --base-url, model.params)" in by_option
    assert "Change what the job asks (model.name, model.base_url, model.params)" in by_job


def test_the_doctor_names_the_option_that_gave_the_server(
    folder: Path, logprobs: Any, monkeypatch: pytest.MonkeyPatch, fault_server: Any
) -> None:
    """In the line of the check."""
    monkeypatch.chdir(folder)
    down = fault_server.url
    fault_server.stop()

    done = logprobs("doctor", "job.toml", "--base-url", down)

    assert "correct the port in --base-url" in " ".join(done.out.split())


@pytest.mark.parametrize("words", [["--json"], ["--each"], ["-o", "rows.csv"]])
def test_a_low_coverage_is_said_whatever_is_asked_for(
    folder: Path, logprobs: Any, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """A label_probability of 1 at a coverage of 0.03 is the likeliest of what is left, not a sure answer."""
    monkeypatch.chdir(folder)
    done = logprobs("labels", "demo/out", "--labels", "Lon,Berl", "--shared", "whole", *words)

    assert "answers have a coverage below 0.5" in done.err + done.out * ("--each" in words)


def test_calibrating_with_labels_says_how_little_they_cover(
    folder: Path, logprobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The confidence that is judged is of what the labels cover."""
    monkeypatch.chdir(folder)
    done = logprobs("calibrate", "demo/out", "--expected", "capital", "--labels", "Lon,Berl")

    assert "answers have a coverage below 0.5" in done.err


def test_a_column_that_was_not_kept_says_how_to_keep_one(tmp_path: Path, logprobs: Any, fault_server: Any) -> None:
    """Not that there are: none."""
    write_prompts(tmp_path, {"text": ["x"]})
    logprobs("run", write_job(tmp_path, fault_server.url))
    done = logprobs("calibrate", tmp_path / "store", "--expected", "capital")

    assert "no column 'capital' was kept with the prompts; no other was: name them in the job's" in done.err


def test_a_truth_that_is_neither_right_nor_wrong_names_its_column(
    folder: Path, logprobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the option that the column was given by."""
    monkeypatch.chdir(folder)
    pl.DataFrame({"prompt_id": ["PN"], "grade": [3]}).write_csv("grades.csv")
    done = logprobs("calibrate", "demo/out", "--truth", "grades.csv", "--column", "grade")

    assert "--column grade: 3.0 at row " in done.err
    assert "is not true or false, 1 or 0" in done.err
