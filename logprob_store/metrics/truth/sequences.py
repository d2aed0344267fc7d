"""Intervals that hold at every moment: for a mean that is looked at night after night.

An interval of fixed n holds for one look. Who looks each night and stops at the first alarm gives it many chances to be
wrong; a confidence sequence counts them all.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PRIOR: Final = 0.5
"""The mean of a value that nothing is known of; its variance is then at most a quarter."""


def confidence_sequence(
    values: Iterable[float | None], *, level: float = 0.95, low: float = 0.0, high: float = 1.0, most_bet: float = 0.5
) -> pl.DataFrame:
    """The mean of bounded values so far, with bounds that hold after every one of them at once.

    Take flips (0 or 1) of one prompt after another, tonight's flip rate and that of the nights before, a confidence or
    a Jensen-Shannon divergence (at most ln 2). Stop whenever the lower bound is above a limit: the chance of ever
    doing so without cause is at most (1 - level) / 2. One row per value: `n`, `estimate`, `low`, `high`.

    Formula: with x scaled to [0, 1], a = (1 - level) / 2, m_t and v_t the mean and variance of the values before t
    (v_t with one value of 1/2 and one variance of 1/4 beforehand) and the bet b_t = min(most_bet,
    sqrt(2 ln(1/a) / (v_t t ln(1 + t)))):
    low = (sum b x - ln(1/a) - sum (x - m)^2 (-ln(1 - b) - b)) / sum b, at least 0; high the same of 1 - x.
    Range: [low, high]. Unit: that of the values.
    Needs: values in the order in which they came, whose mean given those before is the same; no trend.
    Nulls: left out.
    Source: the predictable plug-in empirical Bernstein sequence, Waudby-Smith and Ramdas 2024 (arXiv:2010.09686).

    Args:
        values: the values, in order.
        level: the chance that both bounds hold at every moment, at least.
        low: the least value that can come.
        high: the greatest value that can come.
        most_bet: the greatest bet, in (0, 1).

    Raises:
        ValueError: a value is outside [low, high], or `level`, `most_bet` or the range is impossible.

    The first value cannot say much. With x = 1: a = 0.025, t = 1, v = 1/4, so the bet is 1/2, m is 0, and low is
    (1/2 - 3.689 - (ln 2 - 1/2)) / (1/2), which is below 0.

    >>> confidence_sequence([1.0, 0.5, None]).rows()
    [(1, 1.0, 0.0, 1.0), (2, 0.75, 0.0, 1.0)]
    >>> confidence_sequence([0.0] * 200).select(pl.col("low", "high").round(3)).row(-1)
    (0.0, 0.039)
    """
    if not 0 < level < 1:
        raise ValueError(f"level {level} is not between 0 and 1; 0.95 is usual")
    if not 0 < most_bet < 1:
        raise ValueError(f"most_bet {most_bet} is not between 0 and 1; 0.5 is usual")
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"low {low} and high {high}: give the least and the greatest value that can come")
    given = [float(value) for value in values if value is not None]
    for number, value in enumerate(given):
        if not low <= value <= high:
            raise ValueError(f"value {number} is {value}, outside [{low}, {high}]")
    width, alpha = high - low, (1 - level) / 2
    scaled = [(value - low) / width for value in given]
    below = _lower_bounds(scaled, alpha, most_bet)
    above = _lower_bounds([1 - value for value in scaled], alpha, most_bet)
    rows = []
    total = 0.0
    for number, (value, least, most) in enumerate(zip(given, below, above, strict=True), 1):
        total += value
        rows.append((number, total / number, low + width * least, high - width * most))
    kinds = {"n": pl.Int64, "estimate": pl.Float64, "low": pl.Float64, "high": pl.Float64}
    return pl.DataFrame(rows, schema=kinds, orient="row")


def _lower_bounds(values: list[float], alpha: float, most_bet: float) -> Iterator[float]:
    """The lower bound after each value; each is in [0, 1]."""
    needed = math.log(1 / alpha)
    total = squares = won = bets = spent = 0.0
    variance = _PRIOR**2
    for count, value in enumerate(values, 1):
        mean = total / (count - 1) if count > 1 else 0.0
        bet = min(most_bet, math.sqrt(2 * needed / (variance * count * math.log1p(count))))
        won += bet * value
        bets += bet
        spent += (value - mean) ** 2 * (-math.log1p(-bet) - bet)
        yield max(0.0, (won - needed - spent) / bets)
        total += value
        squares += (value - (_PRIOR + total) / (count + 1)) ** 2
        variance = (_PRIOR**2 + squares) / (count + 1)
