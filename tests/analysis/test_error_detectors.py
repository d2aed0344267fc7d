"""Detectors of errors: their numbers are scikit-learn's, their judgement is honest, and files are numbers."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import logprob_store as ls
from logprob_store.errors import InputError, StoreError

if TYPE_CHECKING:
    from pathlib import Path

SCORES = ["confidence", "worst", "spread"]


def answers(count: int, *, weight: float, seed: int = 0) -> pl.DataFrame:
    """Answers whose truth depends on `confidence`, and on `worst` as much as `weight` says; `spread` is noise."""
    generator = np.random.default_rng(seed)
    confidence, worst, spread = generator.uniform(size=(3, count))
    logit = 3 * (confidence - 0.5) + weight * (worst - 0.5)
    correct = generator.uniform(size=count) < 1 / (1 + np.exp(-logit))
    prompts = [f"p{number // 2}" for number in range(count)]
    return pl.DataFrame(
        {"prompt_id": prompts, "confidence": confidence, "worst": worst, "spread": spread, "correct": correct}
    )


def test_the_expression_is_scikit_learns_pipeline() -> None:
    """Median, standardising and logistic regression, also where a score is null."""
    frame = answers(200, weight=4).with_columns(worst=pl.when(pl.col("spread") > 0.2).then(pl.col("worst")))
    found = ls.fit_error_detector(frame)
    x, wrong = frame.select(SCORES).to_numpy(), ~frame["correct"].to_numpy()
    pipeline: Any = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression())

    assert [one.name for one in found.features] == SCORES
    assert frame.select(found.expr()).to_series().to_list() == pytest.approx(
        pipeline.fit(x, wrong).predict_proba(x)[:, 1].tolist(), abs=1e-4
    )


def test_without_any_score_there_is_no_probability() -> None:
    """A row of nulls is null, and not the average answer."""
    found = ls.fit_error_detector(answers(200, weight=4))
    nulls = pl.DataFrame({name: [None] for name in SCORES}, schema=dict.fromkeys(SCORES, pl.Float64))

    assert nulls.select(found.expr()).item() is None


def test_a_second_score_that_knows_more_is_a_gain() -> None:
    """The interval of the gain is above 0, and `describe` says so."""
    found = ls.fit_error_detector(answers(600, weight=6), groups="prompt_id")

    assert found.judgement.gain_low is not None
    assert found.judgement.gain_low > 0
    assert "it ranks better than confidence alone" in found.describe()


@pytest.mark.slow
def test_noise_is_no_gain() -> None:
    """Where the confidence is all there is to know, nothing better is claimed, in 20 of 20 samples."""
    verdicts = [ls.fit_error_detector(answers(100, weight=0, seed=seed)).judgement.gain_low for seed in range(20)]

    assert all(low is not None and low <= 0 for low in verdicts)


def test_the_judgement_is_of_answers_that_were_not_learned_from() -> None:
    """Thirty scores of noise and 60 answers: fitted on all of them it would rank them well; judged, it cannot."""
    generator = np.random.default_rng(3)
    noise = pl.DataFrame({f"noise_{number}": generator.normal(size=60) for number in range(30)})
    frame = noise.with_columns(confidence=pl.lit(0.5), correct=pl.Series(generator.uniform(size=60) < 0.5))
    found = ls.fit_error_detector(frame, columns=noise.columns)
    on_all = frame.with_columns(sure=1 - found.expr()).select(ls.auroc("sure", "correct")).item()

    assert on_all > 0.85
    assert found.judgement.auroc is not None
    assert found.judgement.auroc < 0.7


def test_the_order_of_rows_changes_nothing() -> None:
    """The same rows give the same detector."""
    frame = answers(120, weight=2)

    assert ls.fit_error_detector(frame) == ls.fit_error_detector(frame.sample(fraction=1, shuffle=True, seed=1).lazy())


def test_truths_may_be_a_series_with_nulls() -> None:
    """Answers that nobody judged are left out and counted."""
    frame = answers(120, weight=2)
    truth = frame["correct"].to_list()
    found = ls.fit_error_detector(frame.drop("correct"), pl.Series([None, *truth[1:]]))

    assert (found.rows, found.unjudged) == (119, 1)
    assert found.wrong == truth[1:].count(False)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"columns": "worst"}, "columns 'worst' is one text"),
        ({}, {"columns": ["best"]}, "there is no column 'best'; there are"),
        ({}, {"columns": ["correct"]}, "'correct' is the truth"),
        ({}, {"columns": ["prompt_id"]}, "'prompt_id' is of String"),
        ({"worst": pl.lit(None, pl.Float64)}, {}, "'worst' is null in all rows"),
        ({"worst": 1 / (pl.col("worst") - pl.col("worst"))}, {}, "'worst' has an infinite value or NaN"),
        ({}, {"folds": 1}, "folds 1: at least 2"),
        ({"correct": pl.lit(value=True)}, {}, "80 right and 0 wrong: a detector takes at least 50"),
        ({"prompt_id": pl.lit("p")}, {"groups": "prompt_id"}, "1 groups are fewer than 5 folds"),
        ({}, {"correct": pl.Series([True])}, "1 truths for 80 answers"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(
    change: dict[str, pl.Expr], options: dict[str, Any], message: str
) -> None:
    """Each message says what is wrong and with which column."""
    frame = answers(80, weight=2).with_columns(**change)

    with pytest.raises(InputError, match=message):
        ls.fit_error_detector(frame, **options)


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    """A file of JSON, which applies without scikit-learn."""
    found = ls.fit_error_detector(answers(80, weight=2))
    path = ls.save_error_detector(found, tmp_path, "nightly")

    assert ls.load_error_detector(tmp_path, "nightly") == found
    assert json.loads(path.read_bytes())["features"][0]["name"] == "confidence"


def test_a_detector_that_does_not_exist_names_those_that_do(tmp_path: Path) -> None:
    """The names are those of the files."""
    ls.save_error_detector(ls.fit_error_detector(answers(80, weight=2)), tmp_path, "nightly")

    with pytest.raises(InputError, match=r"no detector 'weekly' in .*; there are: nightly"):
        ls.load_error_detector(tmp_path, "weekly")
    with pytest.raises(InputError, match="use letters"):
        ls.load_error_detector(tmp_path, "../nightly")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"detector_version": 1', '"detector_version": 2', "has detector version 2, this logprob-store reads 1"),
        ('"intercept"', '"interception"', "is damaged"),
        ('"scale": ', '"scale": -', "is damaged: the scale of confidence"),
    ],
)
def test_a_damaged_detector_is_not_used(tmp_path: Path, old: str, new: str, message: str) -> None:
    """The message says which file, and to fit it again."""
    path = ls.save_error_detector(ls.fit_error_detector(answers(80, weight=2)), tmp_path, "nightly")
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")

    with pytest.raises(StoreError, match=message):
        ls.load_error_detector(tmp_path, "nightly")


def test_fitting_needs_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without scikit-learn the error says what to install."""
    monkeypatch.setitem(sys.modules, "sklearn", None)

    with pytest.raises(ImportError, match=r"logprob-store\[analysis\]"):
        ls.fit_error_detector(answers(80, weight=2))


@pytest.mark.parametrize("groups", [None, "prompt_id"])
def test_a_detector_of_the_baseline_alone_ranks_as_the_baseline(groups: str | None) -> None:
    """Folds have different weights for the one score, which must not look like a better or a worse ranking."""
    found = ls.fit_error_detector(answers(200, weight=4), columns=["confidence"], groups=groups).judgement

    assert found.auroc == found.auroc_baseline
    assert (found.gain, found.gain_low, found.gain_high) == (0.0, 0.0, 0.0)
