"""Bootstrap intervals: known spreads, groups, pairs, seeds, undefined resamples, coverage of the truth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import norm, t

import logprob_store as ls
from logprob_store.metrics.truth.bootstrap import _evaluate, bootstrap, bootstrap_mean

if TYPE_CHECKING:
    from collections.abc import Callable

MEAN = pl.col("x").mean()


def normal(count: int, *, seed: int = 1) -> pl.DataFrame:
    """Standard normal numbers."""
    return pl.DataFrame({"x": np.random.default_rng(seed).normal(size=count)})


def test_mean_agrees_with_theory() -> None:
    """The interval of a mean of 400 standard normals is about 1.96 / 20 to either side."""
    frame = normal(400)
    row = bootstrap(frame, MEAN, resamples=4000).row(0, named=True)
    half = 1.96 * frame["x"].std() / math.sqrt(400)  # type: ignore[operator]

    assert row["low"] == pytest.approx(row["estimate"] - half, abs=0.01)
    assert row["high"] == pytest.approx(row["estimate"] + half, abs=0.01)


def test_both_ways_to_a_mean_agree() -> None:
    """`bootstrap_mean` is `bootstrap` of a mean, up to the noise of resampling."""
    frame = normal(300)
    general = bootstrap(frame, MEAN, resamples=4000).row(0, named=True)
    special = bootstrap_mean(frame["x"], resamples=4000)

    assert special.estimate == pytest.approx(general["estimate"])
    assert special.low == pytest.approx(general["low"], abs=0.01)
    assert special.high == pytest.approx(general["high"], abs=0.01)


def test_against_scipy() -> None:
    """BCa ends of a biased and skewed statistic agree with SciPy's at the level for few rows, not the percentile's."""
    x = np.random.default_rng(3).exponential(size=25)
    level = 2 * norm.cdf(math.sqrt(25 / 24) * t.ppf(0.975, 24)) - 1
    theirs = scipy_bootstrap(
        (x,), np.std, n_resamples=9999, method="BCa", confidence_level=level, rng=0
    ).confidence_interval
    frame, spread = pl.DataFrame({"x": x}), pl.col("x").std(ddof=0)
    ours = bootstrap(frame, spread, resamples=9999, method="bca").row(0, named=True)
    plain = bootstrap(frame, spread, resamples=9999, method="percentile").row(0, named=True)

    assert ours["low"] == pytest.approx(theirs.low, rel=0.02)
    assert ours["high"] == pytest.approx(theirs.high, rel=0.02)
    assert plain["high"] < 0.95 * theirs.high


def test_groups_widen() -> None:
    """Copies of rows add no information: with groups, the interval is as wide as without the copies."""
    single = normal(100).with_row_index("id")
    copied = pl.concat([single] * 9)
    width = lambda row: row["high"] - row["low"]  # noqa: E731
    honest = width(bootstrap(single, MEAN, resamples=4000).row(0, named=True))
    grouped = width(bootstrap(copied, MEAN, groups="id", resamples=4000).row(0, named=True))
    naive = width(bootstrap(copied, MEAN, resamples=4000).row(0, named=True))
    mean = bootstrap_mean(copied["x"], groups=copied["id"], resamples=4000)

    assert grouped == pytest.approx(honest, rel=0.1)
    assert naive == pytest.approx(honest / 3, rel=0.1)
    assert mean.high - mean.low == pytest.approx(honest, rel=0.1)  # type: ignore[operator]


def test_groups_are_drawn_whole() -> None:
    """With groups of different sizes, every resample consists of whole groups."""
    frame = pl.DataFrame({"g": ["a", "b", "b", "c", "c", "c"], "x": [1.0, 2.0, 2.0, 3.0, 3.0, 3.0]})
    whole = (pl.col("x").sum() - pl.col("x").round().cast(pl.Int64).sum()).alias("whole")
    sizes = [((pl.col("x") == size).sum() % size).alias(f"part of {size}") for size in (1, 2, 3)]
    table = bootstrap(frame, [whole, *sizes], groups="g", resamples=200)

    assert table["low"].to_list() == table["high"].to_list() == [0.0] * 4


def test_paired_difference() -> None:
    """The difference of two columns that differ by a constant does not vary, although each column does."""
    frame = normal(50).with_columns(y=pl.col("x") + 0.25)
    table = bootstrap(frame, [MEAN, (pl.col("y").mean() - MEAN).alias("gain")])
    x, gain = table.rows(named=True)

    assert x["high"] - x["low"] > 0.3
    assert (gain["low"], gain["high"]) == (pytest.approx(0.25), pytest.approx(0.25))


def test_seeded() -> None:
    """The same seed gives the same numbers, another seed others."""
    frame = normal(60)

    assert bootstrap(frame, MEAN).equals(bootstrap(frame, MEAN))
    assert not bootstrap(frame, MEAN).equals(bootstrap(frame, MEAN, seed=1))
    assert bootstrap_mean(frame["x"]) == bootstrap_mean(frame["x"])


def test_undefined_resamples_are_counted() -> None:
    """A metric that is undefined on most resamples has no interval; `resamples` counts those on which it is defined."""
    frame = pl.DataFrame({"x": [1.0] + [None] * 9})
    # a resample of 10 misses the one row with chance 0.9^10 = 0.35
    often = bootstrap(frame, MEAN, resamples=2000).row(0, named=True)
    seldom = bootstrap(frame, pl.when(pl.col("x").count() > 3).then(MEAN).alias("x"), resamples=50).row(0)

    assert often["resamples"] / 2000 == pytest.approx(0.651, abs=0.04)
    assert (often["low"], often["high"]) == (1.0, 1.0)
    assert seldom[1:4] == (None, None, None)


def test_how_many_rows_are_evaluated_at_once_changes_nothing() -> None:
    """Evaluating one resample at a time gives the same values as all of them together."""
    frame = normal(40)
    resamples = [np.random.default_rng(seed).integers(0, 40, 40) for seed in range(50)]
    one_by_one = _evaluate(frame, [MEAN], resamples, rows_at_once=1)

    assert_frame_equal(one_by_one, _evaluate(frame, [MEAN], resamples), rel_tol=1e-12)


@pytest.mark.slow
def test_covers_the_truth() -> None:
    """Of 200 intervals at 90 %, about 180 hold the true mean."""
    held = 0
    for seed in range(200):
        interval = bootstrap_mean(normal(80, seed=seed)["x"], resamples=300, level=0.9, seed=seed)
        held += interval.low <= 0 <= interval.high  # type: ignore[operator]

    # binomial(200, 0.9) has standard deviation 4.2; the percentile bootstrap is a little narrow
    assert 160 <= held <= 195


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level": 95}, "level 95 is not between 0 and 1"),
        ({"resamples": 0}, "resamples 0"),
        ({"method": "bc"}, "'bc' is none of percentile, bca"),
        ({"groups": "g"}, "row 1 has no group in g"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], message: str) -> None:
    """Invalid arguments are errors."""
    with pytest.raises(ValueError, match=message):
        bootstrap(pl.DataFrame({"x": [1.0, 2.0], "g": ["a", None]}), MEAN, **arguments)  # type: ignore[arg-type]


def test_no_rows() -> None:
    """A frame without rows is an error; a column without values has no interval."""
    with pytest.raises(ValueError, match="no rows to draw from"):
        bootstrap(pl.DataFrame({"x": []}), MEAN)
    assert bootstrap_mean(pl.Series([None, None], dtype=pl.Float64)) == (None, None, None)


def test_not_finite() -> None:
    """A NaN in a mean is an error, never a NaN interval."""
    with pytest.raises(ValueError, match="NaN or infinite"):
        bootstrap_mean(pl.Series([1.0, math.nan]))


def test_one_row() -> None:
    """The interval of one row has no width, by both methods."""
    frame = pl.DataFrame({"x": [0.5]})

    assert bootstrap(frame, MEAN, resamples=5).row(0) == ("x", 0.5, 0.5, 0.5, 5)
    assert bootstrap(frame, MEAN, resamples=5, method="bca").row(0) == ("x", 0.5, 0.5, 0.5, 5)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_a_mean_of_truths_has_the_interval_of_a_share(method: str) -> None:
    """None of 50 has 1 - 0.025^(1/50) as its upper end, by either method, Boolean or as whole numbers."""
    flips = pl.DataFrame({"flip": [False] * 50, "whole": [0] * 50})
    rows = bootstrap(flips, [pl.col("flip").mean(), pl.col("whole").mean()], method=method).rows()  # type: ignore[arg-type]
    high = pytest.approx(1 - 0.025 ** (1 / 50))

    assert rows == [("flip", 0.0, 0.0, high, 0), ("whole", 0.0, 0.0, high, 0)]


def test_accuracy_is_a_share_of_the_judged_rows() -> None:
    """20 of 20 judged rows right has the low end 0.025^(1/20); rows without a truth count for nothing."""
    frame = pl.DataFrame({"confidence": [0.9] * 25, "correct": [True] * 20 + [None] * 5})
    row = bootstrap(frame, ls.accuracy().alias("right")).row(0)

    assert row == ("right", 1.0, pytest.approx(0.025 ** (1 / 20)), 1.0, 0)


def test_shares_of_several_columns_at_once() -> None:
    """An expression of several columns has one row for each, with the interval of a share."""
    frame = pl.DataFrame({"a": [True, True], "b": [False, True]})
    names = [(name, estimate) for name, estimate, *_ in bootstrap(frame, pl.col("a", "b").mean()).rows()]

    assert names == [("a", 1.0), ("b", 0.5)]


def test_a_share_over_groups_counts_groups() -> None:
    """Copies of answers add nothing to what is known of a share."""
    once = pl.DataFrame({"id": range(20), "correct": [True] * 20})
    copied = pl.concat([once] * 5)

    assert bootstrap(copied, pl.col("correct").mean(), groups="id").row(0)[1:4] == pytest.approx(
        bootstrap(once, pl.col("correct").mean()).row(0)[1:4]
    )
    assert bootstrap_mean(copied["correct"], groups=copied["id"]).low == pytest.approx(0.025 ** (1 / 20))


def test_other_means_are_no_shares() -> None:
    """Numbers that happen to be 0 are resampled, and so are counts above 1."""
    frame = pl.DataFrame({"change": [0.0, 0.0], "count": [0, 2]})

    assert bootstrap(frame, pl.col("change").mean()).row(0) == ("change", 0.0, 0.0, 0.0, 1000)
    assert bootstrap(frame, pl.col("count").mean()).row(0)[4] == 1000


def test_rows_stay_in_the_order_of_the_metrics() -> None:
    """Resampled metrics and those with an interval of their own come back in the order asked for."""
    frame = pl.DataFrame({"confidence": [0.9, 0.4] * 30, "correct": [True, False] * 30})
    names = bootstrap(frame, [ls.brier(), ls.accuracy(), ls.auroc(), ls.ece()], resamples=20)["metric"].to_list()

    assert names == ["brier", "accuracy", "auroc", "ece"]


@pytest.mark.parametrize("metric", [ls.brier, ls.nll, ls.aurc, ls.augrc, ls.excess_aurc])
def test_right_answers_do_not_say_that_no_answer_is_wrong(metric: Callable[[], pl.Expr]) -> None:
    """Of 20 right answers, no resample has a wrong one; the interval allows for one that was not seen."""
    frame = pl.DataFrame({"confidence": [0.8 + number / 200 for number in range(20)], "correct": [True] * 20})
    one_wrong = frame.with_columns(correct=pl.int_range(pl.len()) != 10).select(metric()).item()

    estimate, low, high = ls.bootstrap(frame, metric(), resamples=200).row(0)[1:4]
    assert low <= estimate < one_wrong <= high


def test_one_unseen_truth_is_allowed_for_by_group() -> None:
    """Copies of answers in a prompt turn wrong together: the interval is not narrower for them."""
    frame = pl.DataFrame({"confidence": [0.9] * 10, "correct": [True] * 10}).with_row_index("prompt")
    copies = pl.concat([frame] * 5)

    alone = ls.bootstrap(frame, ls.brier(), resamples=400).row(0)[3]
    assert ls.bootstrap(copies, ls.brier(), groups="prompt", resamples=400).row(0)[3] == pytest.approx(alone, abs=0.1)


def test_what_is_computed_of_a_metric_allows_for_nothing() -> None:
    """A difference of two metrics is an ordinary expression: the bootstrap of pairs."""
    frame = pl.DataFrame({"confidence": [0.9] * 20, "correct": [True] * 20})

    assert ls.bootstrap(frame, (ls.brier() - ls.brier()).alias("none"), resamples=20).row(0)[1:4] == (0.0, 0.0, 0.0)
