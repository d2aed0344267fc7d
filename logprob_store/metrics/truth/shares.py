"""Shares: an interval for a proportion that also holds at 0 and at 1, and the chance of a count.

Resampling zeros gives zeros, so a bootstrap says [0, 0] of 0 flips in 50. What a share has instead is exact (Clopper
and Pearson), and needs no resamples; docs/decisions/0031 weighs it against Wilson's.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import polars as pl

_TERMS: Final = 1_000_000
ENOUGH_GROUPS: Final = 10
_TINY: Final = 1e-300
_PRECISION: Final = 1e-14
_ENDS: Final = ("low", "high")


class Interval(NamedTuple):
    """An estimate and the ends of its interval; all None where there is no value to estimate from."""

    estimate: float | None
    low: float | None
    high: float | None


def share_interval(successes: float, trials: float, *, level: float = 0.95) -> Interval:
    """The exact interval of a share, such as right answers, flips or refusals among independent answers.

    Formula: with k of n, low is the quantile (1 - level) / 2 of Beta(k, n - k + 1), 0 where k is 0, and high the
    quantile (1 + level) / 2 of Beta(k + 1, n - k), 1 where k is n.
    Range: [0, 1]. Unit: none.
    Needs: independent trials; where several belong together, as answers to one prompt, `grouped_share_interval`.
    Nulls: no trial gives an interval of None.
    Source: Clopper and Pearson 1934. It holds the true share in at least `level` of cases, whatever the share and n.

    Args:
        successes: how many trials had the property.
        trials: how many trials there were.
        level: the least share of such intervals that hold the true value; an interval at 0.9 has a one-sided bound at
            0.95 at each end.

    Raises:
        ValueError: `successes` is not between 0 and `trials`, or `level` is not in (0, 1).

    None of 50, whose upper end is 1 - 0.025^(1/50) = 0.071122:

    >>> low, high = share_interval(0, 50)[1:]
    >>> low, round(high, 6)
    (0.0, 0.071122)
    """
    if not 0 < level < 1:
        raise ValueError(f"level {level} is not between 0 and 1; 0.95 is usual")
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials: give between none and all of them")
    if not trials:
        return Interval(None, None, None)
    failures, tail = trials - successes, (1 - level) / 2
    low = beta_quantile(tail, successes, failures + 1) if successes > 0 else 0.0
    high = 1.0 - beta_quantile(tail, failures, successes + 1) if failures > 0 else 1.0
    return Interval(successes / trials, low, high)


def grouped_share_interval(successes: pl.Series, trials: pl.Series, *, level: float = 0.95) -> Interval:
    """The interval of a share over groups of trials that belong together: answers to one prompt, places of one answer.

    Formula: `share_interval` of n = the number of independent trials that would vary as much: p (1 - p) / v with the
    variance v = g / (g - 1) sum (k_i - p n_i)^2 / (sum n_i)^2 of the share over g groups, times the square of the
    normal over the t quantile with g - 1 degrees of freedom, and at most sum n_i. Where fewer than ten groups have the
    rarer outcome, v says too little, and n = (sum n_i)^2 / sum n_i^2, the number of groups where they are of one size.
    Groups of one trial are independent.
    Range: [0, 1]. Unit: none.
    Needs: one value per group in both, of the same length; groups without trials count for nothing.
    Nulls: groups with a null in either are left out; no trial gives an interval of None.
    Source: Korn and Graubard 1998; Clopper and Pearson 1934.

    Raises:
        ValueError: a group has more successes than trials, the lengths differ, or `level` is not in (0, 1).

    Two prompts of three answers each, all right, say as much as two answers: low is 0.025^(1/2) = 0.158114.

    >>> import polars as pl
    >>> round(grouped_share_interval(pl.Series([3, 3]), pl.Series([3, 3])).low, 6)
    0.158114
    """
    if len(successes) != len(trials):
        raise ValueError(f"{len(successes)} successes and {len(trials)} trials; give one of each for each group")
    used = successes.is_not_null() & trials.is_not_null() & (trials > 0)
    counts, sizes = (values.filter(used).cast(float).to_numpy() for values in (successes, trials))  # float64[groups]
    total, groups = float(sizes.sum()), len(sizes)
    if (counts < 0).any() or (counts > sizes).any():
        raise ValueError("a group has more successes than trials, or fewer than none")
    if not groups or (sizes == 1).all():
        return share_interval(float(counts.sum()), total, level=level)
    share = float(counts.sum()) / total
    squares = float(((counts - share * sizes) ** 2).sum())
    independent = total**2 / float((sizes**2).sum())
    rarer = min(int((counts > 0).sum()), int((counts < sizes).sum()))
    if rarer >= ENOUGH_GROUPS and squares > 0:
        variance = groups / (groups - 1) * squares / total**2
        tail = (1 + level) / 2
        shrunk = (NormalDist().inv_cdf(tail) / t_quantile(tail, groups - 1)) ** 2
        independent = min(total, share * (1 - share) / variance * shrunk)
    low, high = share_interval(share * independent, independent, level=level)[1:]
    return Interval(share, low, high)


def share_bounds(successes: pl.Expr, trials: pl.Expr, *, level: float = 0.95) -> tuple[pl.Expr, pl.Expr]:
    """The ends of `share_interval` in each row of a table, null where there are no trials."""
    import polars as pl

    def ends(rows: pl.Series) -> pl.Series:
        counts = rows.struct.unnest().rows()
        found = {pair: share_interval(*pair, level=level)[1:] for pair in set(counts) if None not in pair}
        return pl.Series(
            [dict(zip(_ENDS, found.get(pair, (None, None)), strict=True)) for pair in counts], dtype=pl.Struct(kinds)
        )

    kinds = dict.fromkeys(_ENDS, pl.Float64)
    counts = pl.struct(successes.cast(pl.Int64).alias("successes"), trials.cast(pl.Int64).alias("trials"))
    both = counts.map_batches(ends, return_dtype=pl.Struct(kinds), is_elementwise=True)
    return both.struct.field("low"), both.struct.field("high")


def chance_of_at_least(successes: int, trials: int, share: float) -> float:
    """The chance that at least `successes` of independent trials have a property that each has with chance `share`.

    Formula: the sum over j from k to n of C(n, j) p^j (1 - p)^(n - j), as the incomplete beta I_p(k, n - k + 1).
    Range: [0, 1]. Unit: none.
    Source: the binomial distribution. With k the least count that alarms, it is the alarm's power at a true share p.

    At least one of two coins: 3/4.

    >>> round(chance_of_at_least(1, 2, 0.5), 12)
    0.75
    """
    if successes <= 0:
        return 1.0
    if successes > trials:
        return 0.0
    return beta_cdf(share, successes, trials - successes + 1)


def beta_cdf(x: float, a: float, b: float) -> float:
    """The distribution function of Beta(a, b) at x, also called the regularised incomplete beta function."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side
        return 1.0 - beta_cdf(1.0 - x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(front) / a * _beta_fraction(x, a, b)


def beta_quantile(probability: float, a: float, b: float) -> float:
    """The value below which Beta(a, b) lies with that probability, found by halving to the last digit."""
    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2) < high:
        if beta_cdf(middle, a, b) < probability:
            low = middle
        else:
            high = middle
        if high - low < _PRECISION * high:
            break
    return high


def t_quantile(probability: float, freedom: float) -> float:
    """The quantile of Student's t for a probability from 1/2 on, by way of the beta distribution."""
    x = beta_quantile(2 * (1 - probability), freedom / 2, 0.5)
    return math.sqrt(freedom * (1 - x) / x)


def _beta_fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function, by Lentz's method (Press et al., Numerical Recipes)."""
    value, numerator, denominator = 1.0, 1.0, 0.0
    for term in range(_TERMS):
        m = term // 2
        if term == 0:
            step = 1.0
        elif term % 2 == 0:
            step = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            step = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        denominator = 1.0 / _away_from_zero(1.0 + step * denominator)
        numerator = _away_from_zero(1.0 + step / numerator)
        value *= numerator * denominator
        if term and abs(1.0 - numerator * denominator) < _PRECISION:
            break
    return value - 1.0


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
