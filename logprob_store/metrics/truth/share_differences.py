"""Differences of two shares: an interval that also holds where nothing differs, of the same answers or of others.

A bootstrap of differences that are all 0 says [0, 0]. The score interval is not of zero width there, and needs no
resamples; docs/decisions/0034 weighs it against others.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

from logprob_store.metrics.truth.shares import ENOUGH_GROUPS, Interval, t_quantile

if TYPE_CHECKING:
    import polars as pl

_HALVINGS: Final = 60


def paired_share_interval(gained: float, lost: float, trials: float, *, level: float = 0.95) -> Interval:
    """The interval of the difference of two shares of the same trials, such as what two models get right.

    Formula: the differences d under which |(b - c) - n d| is at most z times its standard deviation, sqrt(n (2 q + d (1
    - d))), with q the likeliest chance of a loss at d; b of n trials have the property on the first side alone and c on
    the second alone.
    Range: [-1, 1]. Unit: none.
    Needs: independent trials; where several belong together, as answers to one prompt, `grouped_paired_share_interval`.
    Nulls: no trial gives an interval of None.
    Source: Tango 1998, recommended by Fagerland, Lydersen and Laake 2014. How often it holds: docs/statistics.md.

    Args:
        gained: how many trials had the property on the first side alone.
        lost: how many had it on the second side alone.
        trials: how many trials there were, with those that were alike on both sides.
        level: the share of such intervals that hold the true difference.

    Raises:
        ValueError: a count is below 0, there are more differences than trials, or `level` is not in (0, 1).

    Where nothing differs, the ends are z^2 / (n + z^2) from 0: 3.841459 / 53.841459 = 0.071348 with 50 trials.

    >>> [round(end, 6) for end in paired_share_interval(0, 0, 50)]
    [0.0, -0.071348, 0.071348]
    """
    if not 0 < level < 1:
        raise ValueError(f"level {level} is not between 0 and 1; 0.95 is usual")
    if min(gained, lost) < 0 or gained + lost > trials:
        raise ValueError(f"{gained} gained and {lost} lost of {trials} trials: give none or more, and at most all")
    if not trials:
        return Interval(None, None, None)
    z = NormalDist().inv_cdf((1 + level) / 2)
    low, high = _lower_end(gained, lost, trials, z), 0.0 - _lower_end(lost, gained, trials, z)
    return Interval((gained - lost) / trials, low, high)


def grouped_paired_share_interval(
    gained: pl.Series, lost: pl.Series, trials: pl.Series, *, level: float = 0.95
) -> Interval:
    """`paired_share_interval` of trials that belong together: several answers to each prompt, by two models.

    Formula: that of n = the number of independent trials whose difference would vary as much, as in
    `grouped_share_interval`: (q - d^2) / v with q the share of trials that differ, d the difference and v its variance
    over the groups. Where fewer than ten groups have a difference, or fewer than ten lack it, n = (sum n_i)^2 / sum
    n_i^2.
    Range: [-1, 1]. Unit: none.
    Needs: one value per group in all three, of the same length; groups without trials count for nothing.
    Nulls: groups with a null in any are left out; no trial gives an interval of None.
    Source: Tango 1998; Korn and Graubard 1998.

    Raises:
        ValueError: a group has more differences than trials, the lengths differ, or `level` is not in (0, 1).

    Two prompts of three answers each, where nothing differs, say as much as two answers: 3.841459 / 5.841459.

    >>> import polars as pl
    >>> round(grouped_paired_share_interval(pl.Series([0, 0]), pl.Series([0, 0]), pl.Series([3, 3])).high, 6)
    0.65762
    """
    import numpy as np
    import polars as pl

    if not len(gained) == len(lost) == len(trials):
        raise ValueError(f"{len(gained)} gained, {len(lost)} lost and {len(trials)} trials; give one for each group")
    rows = pl.DataFrame([part.alias(name) for part, name in zip((gained, lost, trials), "glt", strict=True)])
    rows = rows.drop_nulls().filter(pl.col("t") > 0)
    more, less, sizes = (rows[name].to_numpy().astype(np.float64) for name in "glt")  # float64[groups]
    groups, total = len(sizes), float(sizes.sum())
    if groups and ((more + less > sizes).any() or min(more.min(), less.min()) < 0):
        raise ValueError("a group has more differences than trials, or fewer than none")
    if not groups or (sizes == 1).all():
        return paired_share_interval(float(more.sum()), float(less.sum()), total, level=level)
    won, fell = float(more.sum()) / total, float(less.sum()) / total
    difference, differing = won - fell, won + fell
    squares = float(((more - less - difference * sizes) ** 2).sum())
    independent = total**2 / float((sizes**2).sum())
    rarer = min(int((more + less > 0).sum()), int((more < sizes).sum()), int((less < sizes).sum()))
    if rarer >= ENOUGH_GROUPS and squares > 0:
        variance = groups / (groups - 1) * squares / total**2
        tail = (1 + level) / 2
        shrunk = (NormalDist().inv_cdf(tail) / t_quantile(tail, groups - 1)) ** 2
        independent = min(total, (differing - difference**2) / variance * shrunk)
    low, high = paired_share_interval(won * independent, fell * independent, independent, level=level)[1:]
    return Interval(difference, low, high)


def share_difference_interval(first: Interval, second: Interval) -> Interval:
    """The interval of the difference of two shares of different trials, from the interval of each.

    Formula: d = p1 - p2, from d - sqrt((p1 - low1)^2 + (high2 - p2)^2) to d + sqrt((high1 - p1)^2 + (p2 - low2)^2).
    Range: [-1, 1]. Unit: none.
    Needs: shares that are independent; of the same trials, `paired_share_interval` is narrower.
    Nulls: an interval of None on either side gives an interval of None.
    Source: Newcombe 1998, square and add.

    1/2 in [0.2, 0.8] less 1/4 in [0.1, 0.65]: sqrt(0.3^2 + 0.4^2) = 0.5 below, sqrt(0.3^2 + 0.15^2) = 0.335410 above.

    >>> [round(end, 6) for end in share_difference_interval(Interval(0.5, 0.2, 0.8), Interval(0.25, 0.1, 0.65))]
    [0.25, -0.25, 0.58541]
    """
    p, low, high = first
    q, least, most = second
    if p is None or low is None or high is None or q is None or least is None or most is None:
        return Interval(None, None, None)
    return Interval(p - q, p - q - math.hypot(p - low, most - q), p - q + math.hypot(high - p, q - least))


def _lower_end(gained: float, lost: float, trials: float, z: float) -> float:
    """The least difference from which the counts are at most z standard deviations away, found by halving."""
    low, high = -1.0, (gained - lost) / trials
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _deviations(middle, gained, lost, trials) > z else (low, middle)
    return high


def _deviations(difference: float, gained: float, lost: float, trials: float) -> float:
    """By how many standard deviations the counts are above what a true difference gives."""
    a = 2 * trials
    b = (2 * trials - gained + lost) * difference - gained - lost
    c = -lost * difference * (1 - difference)
    chance_of_loss = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = trials * (2 * chance_of_loss + difference * (1 - difference))
    above = gained - lost - trials * difference
    return above / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, above)
