"""`logprobs calibrate` and `scores --calibrated`: sources of truth, output, saved calibrators, errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from builders import full_table, run_demo, write_run

import logprob_store as ls
from logprob_store.analysis.calibrators.expected_answers import same_text
from logprob_store.schema import COMPLETIONS, TOKENS, completion_id

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's store."""
    path = tmp_path_factory.mktemp("demo") / "store"
    run_demo(path)
    return path


@pytest.fixture(scope="module")
def judged(demo: Path) -> pl.DataFrame:
    """The demo's answers and whether they are right."""
    store = ls.open_store(demo)
    right = same_text(pl.col("text"), pl.col("capital")).alias("correct")
    joined = store.scores().join(store.prompts.select("prompt_index", "capital"), on="prompt_index")
    return joined.with_columns(right).collect()


def test_expected_column(demo: Path, judged: pl.DataFrame, logprobs: Any) -> None:
    """The figures are those of the answers beside the kept column, each with an interval around it."""
    code, out, _ = logprobs("calibrate", demo, "--expected", "capital", "--json")
    said = json.loads(out)
    figures = {row["metric"]: row for row in said["figures"]}
    ours = judged.select(ls.accuracy(), ls.ece(), ls.ace(), ls.brier(), ls.auroc(), ls.aurc()).row(0, named=True)

    assert code == 0
    assert {name: row["estimate"] for name, row in figures.items()} == pytest.approx(ours)
    assert all(row["low"] < row["high"] for row in figures.values())
    assert sum(row["count"] for row in said["reliability"]) == 243
    assert said["thresholds"][0]["coverage"] == 1.0
    assert (said["calibrator"], said["saved"]) == (None, None)


def test_text_for_people(demo: Path, logprobs: Any) -> None:
    """A person sees how many answers were judged, the figures, the table and the thresholds."""
    code, out, _ = logprobs("calibrate", demo, "--expected", "capital")

    assert code == 0
    assert "243 answers: 243 judged, 0 without a confidence or a truth" in out
    for word in ("ece", "auroc", "mean_confidence", "accuracy_accepted"):
        assert word in out


def test_one_accuracy_has_one_interval(demo: Path, logprobs: Any) -> None:
    """That of all answers is the same figure as that above the threshold 0."""
    said = json.loads(logprobs("calibrate", demo, "--expected", "capital", "--json").out)
    figure, accepted = said["figures"][0], said["thresholds"][0]

    assert (figure["metric"], accepted["threshold"]) == ("accuracy", 0)
    assert (figure["low"], figure["high"]) == (accepted["accuracy_accepted_low"], accepted["accuracy_accepted_high"])


@pytest.mark.parametrize("words", [("--bins", 1), ("--bins", 1, "--equal-mass")])
def test_answers_to_one_prompt_are_taken_together_in_all_intervals(
    words: tuple[object, ...], logprobs: Any, tmp_path: Path
) -> None:
    """Two prompts of three right answers each say as much as two: from 0.025^(1/2) = 0.158114 on, in every table."""
    ids = [completion_id(prompt, sample) for prompt in (0, 1) for sample in (0, 1, 2)]
    who = {"prompt_id": ["p0"] * 3 + ["p1"] * 3, "prompt_index": [0] * 3 + [1] * 3}
    done = {"sample_index": [0, 1, 2] * 2, "choice_index": [0] * 6, "text": ["yes"] * 6, "token_count": [1] * 6}
    token = {"section": ["content"] * 6, "position": [0] * 6, "token": ["yes"] * 6, "logprob": [-0.1] * 6}
    tables = {
        "completions": full_table(COMPLETIONS, {"completion_id": ids, **who, **done}),
        "tokens": full_table(TOKENS, {"completion_id": ids, **token}),
    }
    write_run(tmp_path / "store", "r", [(tables, range(6))], samples=3)
    pl.DataFrame({"prompt_id": ["p0", "p1"], "correct": [True, True]}).write_csv(tmp_path / "truth.csv")
    said = json.loads(
        logprobs("calibrate", tmp_path / "store", "--truth", tmp_path / "truth.csv", *words, "--json").out
    )

    lows = (
        said["figures"][0]["low"],
        said["reliability"][0]["accuracy_low"],
        said["thresholds"][0]["accuracy_accepted_low"],
    )
    assert lows == pytest.approx((0.158114,) * 3, abs=1e-6)


def test_documentation_shows_what_is_printed(demo: Path, logprobs: Any) -> None:
    """The output on the documentation's page is that of the command, apart from spaces."""
    page = (REPO / "docs" / "calibration.md").read_text(encoding="utf-8")
    shown = page.partition("```text\n")[2].partition("```")[0]

    assert shown.split() == logprobs("calibrate", demo, "--expected", "capital")[1].split()


def test_save_and_apply(demo: Path, logprobs: Any, tmp_path: Path) -> None:
    """A saved calibrator lies beside the store, which still verifies, and adds its column to the scores."""
    code, out, _ = logprobs("calibrate", demo, "--expected", "capital", "--method", "platt", "--save", "capitals")
    assert code == 0
    assert "platt of confidence, fitted at " in out
    assert "scores" in out

    assert logprobs("scores", demo, "--calibrated", "capitals", "-o", tmp_path / "scores.parquet")[0] == 0
    written = pl.read_parquet(tmp_path / "scores.parquet")
    fitted = ls.load_calibrator(demo, "capitals")
    assert fitted.fitted_on.runs[0].run == "demo"
    assert fitted.fitted_on.fitted_at is not None
    expected = written.select(fitted.expr())["calibrated"].to_list()
    assert written["calibrated"].to_list() == pytest.approx(expected)
    assert written["calibration_fits"].all()
    assert "calibrated" in logprobs("scores", demo, "--calibrated", "capitals", "-n", 3)[1]
    assert logprobs("verify", demo)[0] == 0


def test_another_job_is_a_warning(demo: Path, logprobs: Any, tmp_path: Path) -> None:
    """A warning names a run whose answers differ from those of the calibrator, and what differs."""
    store = ls.open_store(demo)
    answers = store.scores().collect().with_columns(correct=pl.int_range(pl.len()) % 2 == 0)
    fitted = ls.calibrate(answers, method="platt", store=store)
    fitted.fitted_on.runs[0].settings["model.name"] = "another"
    ls.save_calibrator(fitted, demo, "other")
    code, _, err = logprobs("scores", demo, "--calibrated", "other", "-o", tmp_path / "scores.csv")

    assert code == 0
    assert "fitted on other answers than run demo: model.name: 'gemma-3-270m', fitted on 'another'" in err
    assert not pl.read_csv(tmp_path / "scores.csv")["calibration_fits"].any()


@pytest.mark.parametrize("name", ["prompt_id.parquet", "prompt_id.csv", "completion_id.csv", "completion_id.jsonl"])
def test_truth_from_a_file(name: str, demo: Path, judged: pl.DataFrame, logprobs: Any, tmp_path: Path) -> None:
    """A file of truths by prompt or completion gives the same figures; answers it does not name are left out."""
    path = tmp_path / name
    known = judged.head(200).select(path.stem, verdict="correct")
    {".parquet": known.write_parquet, ".csv": known.write_csv, ".jsonl": known.write_ndjson}[path.suffix](path)
    code, out, _ = logprobs("calibrate", demo, "--truth", path, "--column", "verdict", "--json")
    said = json.loads(out)

    assert code == 0
    assert said["reliability"][0]["unjudged"] == 43
    assert said["figures"][0]["estimate"] == pytest.approx(judged.head(200)["correct"].mean())


def test_truth_as_texts(demo: Path, judged: pl.DataFrame, logprobs: Any, tmp_path: Path) -> None:
    """A column of texts in the truth file works like `--expected`."""
    judged.select("prompt_id", "capital").write_parquet(tmp_path / "truth.parquet")
    _, out, _ = logprobs("calibrate", demo, "--truth", tmp_path / "truth.parquet", "--column", "capital", "--json")

    assert json.loads(out)["figures"][0]["estimate"] == pytest.approx(judged["correct"].mean())


def test_table_to_a_file(demo: Path, logprobs: Any, tmp_path: Path) -> None:
    """-o writes the reliability table, every bin of it."""
    words = ("--equal-mass", "--bins", 4, "--confidence", "min_probability", "-o", tmp_path / "table.csv")
    assert logprobs("calibrate", demo, "--expected", "capital", *words)[0] == 0
    table = pl.read_csv(tmp_path / "table.csv")

    assert table["bin"].to_list() == [0, 1, 2, 3]
    assert table["count"].sum() == 243


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--expected COLUMN"),
        (["--expected", "capital", "--truth", "x.csv"], "--expected COLUMN"),
        (["--expected", "capitol"], "no column 'capitol' was kept with the prompts; there are: country, capital"),
        (["--expected", "capital", "--save", "x"], "--save wants --method"),
        (["--expected", "capital", "--confidence", "sureness"], "--confidence sureness: there is no such score"),
        (["--expected", "capital", "--confidence", "perplexity"], "is not a probability"),
        (["--expected", "capital", "--method", "platt", "--save", "../x"], "use letters, digits"),
        (["--truth", "missing.csv"], "missing.csv cannot be read"),
        (["--truth", "missing.txt"], "must end in one of"),
        (["--expected", "continent"], None),
    ],
)
def test_wrong_words(words: list[str], message: str | None, demo: Path, logprobs: Any) -> None:
    """Wrong options are one message with exit code 2; answers that are all wrong are still measured."""
    code, _, err = logprobs("calibrate", demo, *words)

    assert code == (0 if message is None else 2)
    assert (message or "") in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"prompt_id": ["FR", "FR"], "correct": [True, False]}, "has prompt_id FR twice"),
        ({"prompt_id": ["nowhere"], "correct": [True]}, "names none of the answers"),
        ({"id": ["FR"], "correct": [True]}, "it takes completion_id or prompt_id, and correct"),
        ({"prompt_id": ["FR"], "correct": [7]}, "is not true or false"),
    ],
)
def test_wrong_truths(rows: dict[str, list[object]], message: str, demo: Path, logprobs: Any, tmp_path: Path) -> None:
    """A truth file with wrong columns or values is an error."""
    pl.DataFrame(rows).write_parquet(tmp_path / "truth.parquet")
    code, _, err = logprobs("calibrate", demo, "--truth", tmp_path / "truth.parquet")

    assert code == 2
    assert message in err


def test_fitting_without_scikit_learn(demo: Path, logprobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without scikit-learn, metrics are computed, and --method says what to install."""
    monkeypatch.setitem(sys.modules, "sklearn", None)

    assert logprobs("calibrate", demo, "--expected", "capital")[0] == 0
    code, _, err = logprobs("calibrate", demo, "--expected", "capital", "--method", "platt")
    assert code == 2
    assert "pip install 'logprob-store[analysis]'" in err


def test_no_such_calibrator(demo: Path, logprobs: Any) -> None:
    """A missing calibrator is an error that says how to make one."""
    code, _, err = logprobs("scores", demo, "--calibrated", "nothing")

    assert code == 2
    assert "no calibrator 'nothing'" in err


def test_the_probability_of_a_label_is_judged(demo: Path, logprobs: Any) -> None:
    """With the labels given; a kept column of numbers can be judged as well."""
    capitals = "Paris,London,Madrid,Rome,Berlin"
    options = ("--expected", "capital", "--labels", capitals, "--confidence", "label_probability", "--json")

    done = logprobs("calibrate", demo, *options)

    assert done.code == 0, done.err
    assert {row["metric"] for row in json.loads(done.out)["figures"]} >= {"ece", "auroc"}


def test_labels_that_are_wrong_are_named(demo: Path, logprobs: Any) -> None:
    """As for `logprobs labels`."""
    done = logprobs("calibrate", demo, "--expected", "capital", "--labels", "a,A", "--confidence", "label_probability")

    assert done.code == 2
    assert "--labels 'a,A': labels 'a' and 'A' collide" in done.err


def test_a_narrow_table_of_thresholds_keeps_the_accuracy(
    demo: Path, logprobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is accepted and reviewed goes first."""
    monkeypatch.setenv("COLUMNS", "40")
    out = logprobs("calibrate", demo, "--expected", "capital").out

    assert "accuracy_accepted" in out[out.index("accepting from a threshold on") :].splitlines()[2]
