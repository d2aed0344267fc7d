"""Verdicts of a model as a judge: a cautious score, and the preference between two answers shown in both orders.

From the rows of `label_probabilities`, whose labels are the scale: 1 to 5, or from "A is much better" to "B is much
better".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.metrics.arguments import Column, as_column
from logprob_store.metrics.truth.judged_pairs import group_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNDECIDED: Final = 1e-4
"""A spread up to this is none: all mass is on the tie."""


def risk_averse_score(score: Column = "label", *, mass: Column = "mass") -> pl.Expr:
    """The risk-averse mean of a judge's score: the expected score less what it may fall short of that.

    Formula: m - sqrt(sum p(s) max(0, m - s)^2 / sum p(s)), with m the `expected_score`: the mean less the lower
    semideviation.
    Range: [least label, greatest label] of a scale on which more is better. Unit: that of the labels.
    Needs: the rows of `label_probabilities`, by completion.
    Nulls: left out; null where no label has mass.
    Source: Wang et al. 2025 (arXiv:2503.03064), RAM.

    Raises:
        polars.exceptions.InvalidOperationError: when collected, a label is not a number.

    3/4 on 5 and 1/4 on 1: the mean is 4, and 1/4 x 3^2 = 1.5^2.

    >>> rows = pl.DataFrame({"label": ["5", "1"], "mass": [0.6, 0.2]})
    >>> round(rows.select(risk_averse_score()).item(), 6)
    2.5
    """
    number, weight = as_column(score).cast(pl.Float64), as_column(mass)
    number = pl.when(weight.is_not_null()).then(number)
    total = weight.sum()
    mean = (number * weight).sum() / total
    shortfall = (mean - number).clip(lower_bound=0.0)
    deviation = ((weight * shortfall * shortfall).sum() / total).sqrt()
    return pl.when(total > 0).then(mean - deviation).alias("risk_averse_score")


def both_orders(first: pl.LazyFrame, swapped: pl.LazyFrame, *, by: str | Sequence[str]) -> pl.LazyFrame:
    """A judge's verdict on pairs of answers, averaged over both orders: one row per pair and label.

    A judge that is shown A before B may prefer A because it came first. Ask again with B before A, read the second
    verdict from the other end of the scale, and average the two distributions before you decide.

    Columns:

    - those of `by`
    - `label_index`, `label`: as in `first`
    - `probability`: (p / sum of p + q / sum of q) / 2, with p the mass of the label in `first`, and q that of the label
      as far from the other end of the scale in `swapped`; [0, 1]

    Needs: the rows of `label_probabilities` with the columns of `by`; two calls with the same scale, from one end to
    the other. Several answers on a pair in the same order are added up, each with its mass.
    Nulls: null where one order is missing or has no mass on any label.
    Source: Wang et al. 2025 (arXiv:2503.03064), which averages before the decision.

    Args:
        first: the verdicts on A before B.
        swapped: those on B before A.
        by: the columns that identify a pair.

    0.8 for the first answer, then 0.4 for the second, which is shown first:

    >>> scale = {"pair": 1, "label_index": [0, 1], "label": ["first", "second"]}
    >>> rows = [pl.LazyFrame({**scale, "mass": mass}) for mass in ([0.8, 0.2], [0.4, 0.6])]
    >>> verdicts = both_orders(*rows, by="pair").sort("label_index")
    >>> verdicts.select("label", pl.col("probability").round(6)).collect().rows()
    [('first', 0.7), ('second', 0.3)]
    """
    keys = group_columns(by)
    turned = swapped.lazy().with_columns(label_index=pl.col("label_index").max().over(keys) - pl.col("label_index"))
    both = _shares(first.lazy(), keys).join(
        _shares(turned, keys), on=[*keys, "label_index"], how="full", coalesce=True, suffix="_swapped"
    )
    mean = (pl.col("_share") + pl.col("_share_swapped")) / 2
    return both.select(*keys, "label_index", "label", mean.alias("probability"))


def preference(probability: Column = "probability", *, order: Column = "label_index") -> pl.Expr:
    """Which of two answers a judge prefers, from the distribution over a scale: above 0 the first.

    Formula: E X / (E |X| + sd X), with X the step of the label from the middle of the scale: n // 2 for the first
    label, falling by 1. Where all mass is on the tie it is 0.
    Range: [-1, 1]: 1 is the first label for certain, -1 the last. Unit: none. The scale should have an odd number of
    labels, from the first answer to the second: of an even number, the label after the middle is the tie.
    Needs: the rows of `both_orders`, by pair, or of `label_probabilities`, by completion.
    Nulls: null where a label has no probability.
    Source: Wang et al. 2025 (arXiv:2503.03064).

    1/2 for the first answer and 1/2 for a tie: the mean of X is 1/2, and so is its standard deviation.

    >>> rows = pl.DataFrame({"label_index": [0, 1, 2], "probability": [0.5, 0.5, 0.0]})
    >>> rows.select(preference()).item()
    0.5
    """
    p = as_column(probability).sort_by(as_column(order))
    x = pl.len().cast(pl.Int64) // 2 - pl.int_range(pl.len(), dtype=pl.Int64)
    mean = (p * x).sum()
    spread = (p * x.abs()).sum() + (p * (x - mean).pow(2)).sum().sqrt()
    known = (p.null_count() == 0) & (p.count() > 0)
    return pl.when(known).then(pl.when(spread > _UNDECIDED).then(mean / spread).otherwise(0.0)).alias("preference")


def _shares(rows: pl.LazyFrame, keys: list[str]) -> pl.LazyFrame:
    """Each label's part of the mass of its pair, `_share`; null where there is no mass."""
    labels = rows.group_by(*keys, "label_index").agg(pl.col("label").first(), pl.col("mass").sum())
    total = pl.col("mass").sum().over(keys)
    return labels.with_columns(_share=pl.when(total > 0).then(pl.col("mass") / total))
