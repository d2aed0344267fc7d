"""The interval of an AUROC: by hand, over groups, and where the bootstrap says nothing."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import polars as pl
import pytest

import logprob_store as ls

Z = NormalDist().inv_cdf(0.975)


def ranked(right: int, wrong: int, copies: int = 1) -> pl.DataFrame:
    """Answers of which all right ones are surer than all wrong ones, each in a prompt of equal copies."""
    correct = [True] * right + [False] * wrong
    confidence = [0.5 + number / 1000 for number in range(right)] + [number / 1000 for number in range(wrong)]
    rows = pl.DataFrame({"confidence": confidence, "correct": correct}).with_row_index("prompt")
    return pl.concat([rows] * copies)


def variance(auroc: float, right: int, wrong: int) -> float:
    """The variance of Hanley and McNeil with the mean of both numbers, as in Newcombe's method 5."""
    pairs = (right + wrong) / 2 - 1
    shape = 1 + pairs * (1 - auroc) / (2 - auroc) + pairs * auroc / (1 + auroc)
    return auroc * (1 - auroc) * shape / (right * wrong)


def test_a_perfect_ranking_is_not_surely_perfect() -> None:
    """Of 12 right and 8 wrong answers in perfect order, the lower end is where 1 - A is z standard deviations."""
    estimate, low, high = ls.bootstrap(ranked(12, 8), ls.auroc(), resamples=50).row(0)[1:4]

    assert (estimate, high) == (1.0, 1.0)
    assert low < 0.9
    assert 1.0 - low == pytest.approx(Z * math.sqrt(variance(low, 12, 8)))


def test_copies_of_answers_tell_nothing_new_of_a_ranking() -> None:
    """Four copies of each answer, as a prompt, have the interval that the answers have."""
    low = ls.bootstrap(ranked(6, 6), ls.auroc(), resamples=50).row(0)[2]
    of_copies = ls.bootstrap(ranked(6, 6, copies=4), ls.auroc(), groups="prompt", resamples=50).row(0)[2]

    # 24 of each in place of 6, and a variance four times as large: the same but for N = 23 in place of 5.
    assert of_copies == pytest.approx(low, abs=0.03)


def test_a_variance_above_the_model_widens_the_interval() -> None:
    """Wrong answers that are either the surest or the least sure vary more than a smooth ranking does."""
    generator = np.random.default_rng(5)
    right = generator.uniform(0.5, 0.6, 60)
    wrong = np.concatenate([generator.uniform(0.9, 1.0, 20), generator.uniform(0.0, 0.1, 20)])
    frame = pl.DataFrame({"confidence": [*right, *wrong], "correct": [True] * 60 + [False] * 40})

    estimate, low, high = ls.bootstrap(frame, ls.auroc(), resamples=300).row(0)[1:4]
    assert estimate == 0.5
    assert high - low > 2 * Z * math.sqrt(variance(0.5, 60, 40)) * 1.2


def test_a_percentile_interval_that_is_asked_for_is_given() -> None:
    """`method="percentile"` is what it says, of an AUROC too."""
    found = ls.bootstrap(ranked(12, 8), ls.auroc().alias("named"), method="percentile", resamples=50).row(0)

    assert found[:4] == ("named", 1.0, 1.0, 1.0)


def test_another_name_changes_nothing() -> None:
    """A named AUROC has the interval of one without."""
    named, plain = ls.bootstrap(ranked(12, 8), [ls.auroc().alias("a"), ls.auroc()], resamples=50).rows()

    assert named[1:] == plain[1:]


def test_what_is_computed_of_an_auroc_is_resampled() -> None:
    """A difference of two AUROCs is no AUROC: of two perfect ones it is 0 in each resample."""
    gain = (ls.auroc() - ls.auroc(pl.col("confidence") / 2)).alias("gain")

    assert ls.bootstrap(ranked(12, 8), gain, resamples=50).row(0)[1:4] == (0.0, 0.0, 0.0)


def test_answers_that_are_all_right_have_no_interval() -> None:
    """Without a wrong answer there is no AUROC, and no interval."""
    frame = pl.DataFrame({"confidence": [0.5, 0.6], "correct": [True, True]})

    assert ls.bootstrap(frame, ls.auroc(), resamples=10).row(0)[1:4] == (None, None, None)
