"""Accuracy: the share of right answers, and how many answers were judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from logprob_store.metrics.truth.judged_pairs import is_judged, judged_pairs

if TYPE_CHECKING:
    from logprob_store.metrics.arguments import Column


def accuracy(confidence: Column = "confidence", correct: Column = "correct") -> pl.Expr:
    """The share of judged answers that are right.

    Formula: mean of y.
    Range: [0, 1], higher is better. Unit: none.
    Needs: the columns `confidence` and `correct`. The confidence only decides which rows are judged, so that the
    accuracy is of the same rows as the other metrics.
    Nulls: unjudged rows are left out; no judged row gives null.
    Source: the mean of zeros and ones.

    Of three rows, the last has no confidence, and one of the other two is right:

    >>> frame = pl.DataFrame({"confidence": [0.9, 0.8, None], "correct": [True, False, True]})
    >>> frame.select(accuracy()).item()
    0.5
    """
    # A mean of true and false is a share, so `bootstrap` gives it the interval of a share.
    return (judged_pairs(confidence, correct)[1] == 1.0).mean().alias("accuracy")


def judged(confidence: Column = "confidence", correct: Column = "correct") -> pl.Expr:
    """The number of judged rows, those with both a confidence and a truth: the n of every metric.

    Formula: n.
    Range: [0, inf), higher is better. Unit: rows.
    Needs: the columns `confidence` and `correct`.
    Nulls: a row with a null in either is not counted; no rows give 0.
    Source: a count.

    Of three rows, one lacks the truth and one the confidence:

    >>> frame = pl.DataFrame({"confidence": [0.9, 0.8, None], "correct": [True, None, True]})
    >>> frame.select(judged(), unjudged()).row(0)
    (1, 2)
    """
    return is_judged(confidence, correct).sum().cast(pl.Int64).alias("judged")


def unjudged(confidence: Column = "confidence", correct: Column = "correct") -> pl.Expr:
    """The number of rows that lack the confidence or the truth, and are in no metric. Show it beside each metric.

    Formula: the number of rows - n.
    Range: [0, inf), lower is better. Unit: rows.
    Needs: the columns `confidence` and `correct`.
    Nulls: a row with a null in either is counted once; no rows give 0.
    Source: a count.

    One of two rows has no confidence:

    >>> pl.DataFrame({"confidence": [0.9, None], "correct": [True, True]}).select(unjudged()).item()
    1
    """
    return (~is_judged(confidence, correct)).sum().cast(pl.Int64).alias("unjudged")
