"""Intervals of shares: against SciPy's beta and binomial distributions, by hand, over groups."""

from __future__ import annotations

import polars as pl
import pytest
from scipy import stats

from logprob_store.metrics.truth.shares import (
    Interval,
    beta_cdf,
    beta_quantile,
    chance_of_at_least,
    grouped_share_interval,
    share_interval,
    t_quantile,
)


@pytest.mark.parametrize(("successes", "trials"), [(1, 2), (0, 50), (20, 20), (3, 1000), (999, 1000), (5, 1_000_000)])
def test_exact_interval_against_scipy(successes: int, trials: int) -> None:
    """The ends are the quantiles of the beta distribution that SciPy computes, 0 and 1 included."""
    low = stats.beta.ppf(0.025, successes, trials - successes + 1) if successes else 0.0
    high = stats.beta.ppf(0.975, successes + 1, trials - successes) if successes < trials else 1.0

    assert share_interval(successes, trials) == pytest.approx((successes / trials, low, high), rel=1e-8)


@pytest.mark.parametrize(("a", "b"), [(0.1, 0.1), (1, 1), (0.5, 30), (2000, 3), (500_000, 500_001)])
def test_beta_against_scipy(a: float, b: float) -> None:
    """The distribution function and its inverse are those of SciPy."""
    for probability in (0.001, 0.025, 0.5, 0.975):
        x = float(stats.beta.ppf(probability, a, b))

        assert beta_cdf(x, a, b) == pytest.approx(probability, rel=1e-6)
        assert beta_quantile(probability, a, b) == pytest.approx(x, rel=1e-6)


@pytest.mark.parametrize("freedom", [1, 3, 19, 1000])
def test_t_against_scipy(freedom: int) -> None:
    """The quantile of Student's t is SciPy's."""
    assert t_quantile(0.975, freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-8)


def test_chance_of_a_count_against_scipy() -> None:
    """The chance of at least k is the binomial's tail; none is certain, more than all impossible."""
    assert chance_of_at_least(4, 50, 0.02) == pytest.approx(stats.binom.sf(3, 50, 0.02))
    assert chance_of_at_least(0, 50, 0.02) == 1.0
    assert chance_of_at_least(51, 50, 0.02) == 0.0
    assert chance_of_at_least(1, 50, 0.0) == 0.0


def test_groups_of_one_are_independent() -> None:
    """Groups of one trial each give the interval of as many independent trials."""
    counts = pl.Series([1, 0, 0, 1, 0])

    assert grouped_share_interval(counts, pl.Series([1] * 5)) == share_interval(2, 5)


def test_groups_that_agree_count_once() -> None:
    """Answers that are alike within their prompt say as much as one answer for each prompt, and t allows for few."""
    alike = grouped_share_interval(pl.Series([4, 0, 0, 4] * 10), pl.Series([4] * 40))
    once = share_interval(20, 40)

    assert alike.estimate == 0.5
    assert alike.low == pytest.approx(once.low, abs=0.01)
    assert alike.high == pytest.approx(once.high, abs=0.01)


def test_groups_in_which_nothing_varies() -> None:
    """All right in groups of 2, 2 and 4: as many as (2 + 2 + 4)^2 / (4 + 4 + 16) = 8/3 independent answers."""
    sizes = pl.Series([2, 2, 4])

    assert grouped_share_interval(sizes, sizes).low == pytest.approx(0.025 ** (3 / 8))


def test_nothing_tried() -> None:
    """Without a trial there is no interval."""
    nothing = Interval(None, None, None)

    assert share_interval(0, 0) == nothing
    assert grouped_share_interval(pl.Series([None, 0]), pl.Series([3, 0])) == nothing


def test_impossible_counts() -> None:
    """More successes than trials are an error, of a whole or of one group."""
    with pytest.raises(ValueError, match="3 successes of 2 trials"):
        share_interval(3, 2)
    with pytest.raises(ValueError, match="more successes than trials"):
        grouped_share_interval(pl.Series([3]), pl.Series([2]))
    with pytest.raises(ValueError, match="1 successes and 2 trials"):
        grouped_share_interval(pl.Series([1]), pl.Series([2, 2]))
    with pytest.raises(ValueError, match="level 95"):
        share_interval(1, 2, level=95)
