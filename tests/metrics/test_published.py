"""Numbers published in papers and in the documentation of other libraries, computed from their inputs."""

from __future__ import annotations

from math import log

import polars as pl
import pytest

import logprob_store as ls


def judged(confidence: list[float], correct: list[int]) -> pl.DataFrame:
    """The two columns that metrics read by default."""
    return pl.DataFrame({"confidence": confidence, "correct": correct})


def test_calibration_error_of_torchmetrics() -> None:
    """The docstring of BinaryCalibrationError, two bins: 0.29, and 0.3167 as the largest."""
    frame = judged([0.25, 0.25, 0.55, 0.75, 0.75], [0, 0, 1, 1, 1])

    assert frame.select(ls.ece(bins=2), ls.mce(bins=2)).row(0) == pytest.approx((0.29, 0.3167), abs=5e-5)


def test_brier_score_of_scikit_learn() -> None:
    """The docstring of brier_score_loss: 0.0375 for 0.1, 0.9, 0.8, 0.3."""
    assert judged([0.1, 0.9, 0.8, 0.3], [0, 1, 1, 0]).select(ls.brier()).item() == pytest.approx(0.0375)


def test_log_loss_of_scikit_learn() -> None:
    """The docstring of log_loss: 0.21616 for spam, ham, ham, spam, with these probabilities of spam."""
    assert judged([0.9, 0.1, 0.2, 0.65], [1, 0, 0, 1]).select(ls.nll()).item() == pytest.approx(0.21616, abs=5e-6)


def test_areas_of_scikit_learn() -> None:
    """The docstrings of roc_auc_score and average_precision_score: 0.75 and 0.83."""
    frame = judged([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])

    assert frame.select(ls.auroc(), ls.auprc()).row(0) == pytest.approx((0.75, 0.8333), abs=5e-5)


@pytest.mark.parametrize(
    ("answers", "entropy"),
    [(["Paris", "Rome", "London"], 0.94), (["Paris", "It's Paris", "London"], 0.33)],
)
def test_semantic_entropy_of_kuhn_et_al(answers: list[str], entropy: float) -> None:
    """Table 1 of arXiv:2302.09664: shares 0.5, 0.4 and 0.1, or 0.9 and 0.1 where the first two mean the same."""
    p = [log(0.5), log(0.4), log(0.1)]
    rows = pl.LazyFrame({"text": answers, "logprob_sum": p, "mean_logprob": p, "sample_index": [0, 1, 2]}).with_columns(
        run=pl.lit("r"), prompt_id=pl.lit("q"), choice_index=0, unscored_tokens=0
    )
    meaning = pl.col("text").str.extract(r"(\w+)$")
    found = ls.sample_scores(rows, clusters=meaning).collect()

    assert found["semantic_entropy"].round(2).to_list() == [entropy]
