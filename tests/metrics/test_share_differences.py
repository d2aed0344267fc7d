"""Intervals of differences of two shares: published numbers, by hand, over groups, and which expressions have them."""

from __future__ import annotations

import polars as pl
import pytest

import logprob_store as ls
from logprob_store.metrics.truth.share_differences import (
    grouped_paired_share_interval,
    paired_share_interval,
    share_difference_interval,
)
from logprob_store.metrics.truth.shares import Interval, share_interval

X, Y = pl.col("x"), pl.col("y")


@pytest.mark.parametrize(
    ("gained", "lost", "trials", "expected"),
    [
        # The R package contingencytables 3.0.0, Tango_asymptotic_score_CI_paired_2x2, as its tests print it.
        (6, 16, 161, (-0.0621, -0.1240, -0.0054)),
        # Fagerland, Lydersen and Laake 2014, airway hyper-responsiveness: -0.517 to -0.026.
        (1, 7, 21, (-0.2857, -0.5172, -0.0260)),
    ],
)
def test_published_paired_intervals(gained: int, lost: int, trials: int, expected: tuple[float, float, float]) -> None:
    """The score interval of paired shares is that of published tables."""
    assert paired_share_interval(gained, lost, trials) == pytest.approx(expected, abs=6e-5)


def test_published_interval_of_independent_shares() -> None:
    """56 of 70 against 48 of 80: Newcombe 1998 prints 0.0524 to 0.3339 by his method 10, of Wilson's intervals."""
    # Wilson's: (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4 n^2)) / (1 + z^2 / n)
    first, second = Interval(0.8, 0.691775, 0.876922), Interval(0.6, 0.490477, 0.700462)

    assert share_difference_interval(first, second) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


@pytest.mark.parametrize(("gained", "lost", "trials"), [(50, 0, 50), (0, 1, 1), (0, 0, 1000), (3, 3, 6)])
def test_ends_are_ordered_and_in_range(gained: int, lost: int, trials: int) -> None:
    """The estimate is between the ends, and these are between -1 and 1, with all or no trials different."""
    estimate, low, high = paired_share_interval(gained, lost, trials)

    assert -1 <= low <= estimate <= high <= 1
    assert low < high


def test_the_sides_turned_round_give_the_interval_turned_round() -> None:
    """What is lost one way is gained the other way."""
    estimate, low, high = paired_share_interval(7, 2, 60)

    assert paired_share_interval(2, 7, 60) == pytest.approx((-estimate, -high, -low))


def test_no_trial_has_no_interval() -> None:
    """Without trials there is nothing to say, in groups neither."""
    none = pl.Series([], dtype=pl.Int64)

    assert paired_share_interval(0, 0, 0) == Interval(None, None, None)
    assert grouped_paired_share_interval(none, none, none) == Interval(None, None, None)


@pytest.mark.parametrize(("gained", "lost", "trials", "level"), [(-1, 0, 5, 0.95), (3, 3, 5, 0.95), (1, 1, 5, 1.0)])
def test_impossible_counts_are_refused(gained: int, lost: int, trials: int, level: float) -> None:
    """Counts below none or above all, and a level of 1, are errors."""
    with pytest.raises(ValueError, match=r"give none or more|not between 0 and 1"):
        paired_share_interval(gained, lost, trials, level=level)


def test_copies_of_answers_tell_nothing_new_of_a_difference() -> None:
    """Ten prompts of five equal answers each say as much as ten answers, where few of them differ."""
    gained, lost, trials = pl.Series([5] + [0] * 9), pl.Series([0] * 10), pl.Series([5] * 10)

    low, high = paired_share_interval(1, 0, 10)[1:]
    assert grouped_paired_share_interval(gained, lost, trials)[1:] == pytest.approx((low, high))


def test_groups_of_one_trial_are_independent() -> None:
    """Groups of one trial each have the interval of as many trials."""
    found = grouped_paired_share_interval(pl.Series([1, 0, 0]), pl.Series([0, 1, 0]), pl.Series([1, 1, 1]))

    assert found == paired_share_interval(1, 1, 3)


def test_groups_of_impossible_counts_are_refused() -> None:
    """A group with more differences than trials, and parts of unequal length, are errors."""
    with pytest.raises(ValueError, match="more differences than trials"):
        grouped_paired_share_interval(pl.Series([2]), pl.Series([2]), pl.Series([3]))
    with pytest.raises(ValueError, match="give one for each group"):
        grouped_paired_share_interval(pl.Series([2]), pl.Series([2, 1]), pl.Series([3]))


# which expressions have them


def answers(rows: int = 50) -> pl.DataFrame:
    """Two columns of truths that are alike, the same as numbers, and confidences."""
    truths = [number % 5 > 0 for number in range(rows)]
    return pl.DataFrame(
        {
            "x": truths,
            "y": truths,
            "whole": [int(truth) for truth in truths],
            "point": [float(truth) for truth in truths],
            "confidence": [0.5] * rows,
            "prompt": [number // 5 for number in range(rows)],
        }
    )


@pytest.mark.parametrize(
    "difference",
    [
        X.mean() - Y.mean(),
        (X.cast(float) - Y.cast(float)).mean(),
        (X.cast(int) - pl.col("whole")).mean(),
        ls.accuracy("confidence", "x") - ls.accuracy("confidence", "y"),
        X.sum() / pl.len() - Y.sum() / Y.count(),
        (1 - X.mean()) - (1 - Y.mean()),
        (X.mean() - Y.mean()).alias("named"),
    ],
    ids=str,
)
def test_a_difference_of_equal_shares_is_not_surely_zero(difference: pl.Expr) -> None:
    """Two columns that are alike in all 50 rows: 3.841459 / 53.841459 = 0.0713 either way, however it is written."""
    estimate, low, high, resamples = ls.bootstrap(answers(), difference).row(0)[1:]

    assert (estimate, low, high) == pytest.approx((0.0, -0.071348, 0.071348), abs=1e-6)
    assert resamples == 0


def test_a_difference_of_shares_counts_gains_and_losses() -> None:
    """Three rows won and one lost of 50 have the interval of these counts."""
    flipped = answers().with_columns(x=pl.when(pl.int_range(pl.len()).is_in([0, 5, 10, 1])).then(~X).otherwise(X))

    found = ls.bootstrap(flipped, X.mean() - Y.mean()).row(0)[1:4]
    assert found == pytest.approx(paired_share_interval(3, 1, 50))


def test_a_difference_over_groups_counts_groups() -> None:
    """Ten prompts of five answers each say as much as ten answers, where nothing differs: 3.841459 / 13.841459."""
    found = ls.bootstrap(answers(), X.mean() - Y.mean(), groups="prompt").row(0)[1:4]

    assert found == pytest.approx((0.0, -0.277533, 0.277533), abs=1e-6)


def test_shares_of_different_rows_have_the_interval_of_independent_ones() -> None:
    """All right in both halves: each is 1 in [0.8628, 1], so the difference is between -0.1372 and 0.1372."""
    frame = pl.DataFrame({"x": [True] * 50, "half": [0, 1] * 25})
    first, second = (X.filter(pl.col("half") == half).mean() for half in (0, 1))

    low = share_interval(25, 25).low
    assert ls.bootstrap(frame, first - second).row(0)[1:4] == pytest.approx((0.0, low - 1, 1 - low))


def test_whole_numbers_of_minus_one_to_one_are_a_difference() -> None:
    """A column of won and lost has the interval of a difference, by `bootstrap` and `bootstrap_mean` alike."""
    change = pl.Series("change", [1] * 3 + [-1] + [0] * 46)

    expected = paired_share_interval(3, 1, 50)
    assert ls.bootstrap(change.to_frame(), pl.col("change").mean()).row(0)[1:4] == pytest.approx(expected)
    assert ls.bootstrap_mean(change) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (X.sum() / pl.len(), (40, 50)),
        (X.sum() / X.count(), (40, 50)),
        (pl.col("whole").sum() / pl.col("whole").len(), (40, 50)),
        (X.filter(X).len() / pl.len(), (40, 50)),
        ((pl.col("confidence") > 0.9).sum() / pl.len(), (0, 50)),
        ((X & Y).sum() / Y.sum(), (40, 40)),
        (1 - X.mean(), (10, 50)),
        (1.0 - (X & Y).sum() / Y.sum(), (0, 40)),
        (X.cast(pl.Float32).mean(), (40, 50)),
        (pl.col("point").cast(pl.Boolean).mean(), (40, 50)),
        (pl.col("point").cast(pl.Int8).mean(), (40, 50)),
    ],
    ids=str,
)
def test_a_share_is_known_however_it_is_written(share: pl.Expr, expected: tuple[int, int]) -> None:
    """A quotient of counts, 1 minus a share, and a mean of truths as numbers have the interval of a share."""
    assert ls.bootstrap(answers(), share).row(0)[1:4] == pytest.approx(share_interval(*expected))


def test_a_quotient_of_counts_over_groups_counts_groups() -> None:
    """Ten prompts of five answers, none above 0.9, say as much as ten answers."""
    share = (pl.col("confidence") > 0.9).sum() / pl.len()

    assert ls.bootstrap(answers(), share, groups="prompt").row(0)[3] == pytest.approx(share_interval(0, 10).high)


@pytest.mark.parametrize(
    "other",
    [
        pl.col("point").mean(),  # 0.0 and 1.0: may be a change that is 0.0 mostly
        pl.col("prompt").sum() / pl.len(),  # a mean of whole numbers above 1
        X.sum() / (~X).sum(),  # odds: the rows of one are not among those of the other
        pl.col("prompt").n_unique() / pl.len(),  # equal rows count once
        X.mean() * 100,
        (X.cast(float) - pl.col("confidence")).mean(),
        (X.mean() - Y.mean()) / X.mean(),
    ],
    ids=str,
)
def test_what_only_resembles_a_share_is_resampled(other: pl.Expr) -> None:
    """What is no count of some of the rows among all of them has the bootstrap's interval."""
    assert ls.bootstrap(answers(), other, resamples=20)["resamples"].item() > 0
