"""The share of right answers, and how many answers were judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from logprob_store.metrics.truth.judged_pairs import is_judged, judged_pairs

if TYPE_CHECKING:
    from logprob_store.metrics.arguments import Column


def accuracy(confidence: Column = "confidence", correct: Column = "correct") -> pl.Expr:
    """The share of judged answers that are right.

    Range [0, 1], up is better. Needs: confidence and correct, of which rows with a null in either are left out, so
    that it is of the same rows as the other metrics; no judged row gives null. Source: the mean of zeros and ones.

    >>> frame = pl.DataFrame({"confidence": [0.9, 0.8, None], "correct": [True, False, True]})
    >>> frame.select(accuracy()).item()
    0.5
    """
    return judged_pairs(confidence, correct)[1].mean().alias("accuracy")


def judged(confidence: Column = "confidence", correct: Column = "correct") -> pl.Expr:
    """How many rows have both a confidence and a truth: the n of every metric.

    Range [0, inf), rows. Needs: confidence, correct. Source: a count. Nulls in either are not counted; no rows give 0.

    >>> frame = pl.DataFrame({"confidence": [0.9, 0.8, None], "correct": [True, None, True]})
    >>> frame.select(judged(), unjudged()).row(0)
    (1, 2)
    """
    return is_judged(confidence, correct).sum().cast(pl.Int64).alias("judged")


def unjudged(confidence: Column = "confidence", correct: Column = "correct") -> pl.Expr:
    """How many rows lack the confidence or the truth, and are in no metric. Show it beside each.

    Range [0, inf), rows, down is better. Needs, source, nulls: as `judged`, which counts the others.

    >>> pl.DataFrame({"confidence": [0.9, None], "correct": [True, True]}).select(unjudged()).item()
    1
    """
    return (~is_judged(confidence, correct)).sum().cast(pl.Int64).alias("unjudged")
