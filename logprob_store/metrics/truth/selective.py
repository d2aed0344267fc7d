"""Selective prediction: what a threshold accepts, what it sends to review, and at which error rate.

A row is accepted where its confidence is at least the threshold. Coverage is the share of judged rows that is accepted,
risk the error rate of the accepted rows. The figures are of the rows at hand: a threshold that is the best there tends
to do worse on new rows. For new rows, `guaranteed_threshold` gives a guarantee.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.metrics.truth.judged_pairs import CONFIDENCE, CORRECT, group_columns, judged_rows
from logprob_store.metrics.truth.ranking import cumulative_errors
from logprob_store.metrics.truth.shares import share_bounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logprob_store.metrics.arguments import Column

THRESHOLDS: Final = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_ENDS: Final = ("low", "high")


def coverage_at_risk(confidence: Column = "confidence", correct: Column = "correct", *, risk: float) -> pl.Expr:
    """The largest share of rows that can be accepted with an error rate of at most `risk`.

    Formula: max over thresholds t of (rows with c >= t) / n, where the error rate of these rows is at most `risk`.
    Range: [0, 1], higher is better; 0 where no threshold keeps the risk. Unit: none.
    Needs: the columns `confidence` and `correct`.
    Nulls: unjudged rows are left out; no judged row gives null.
    Source: Geifman and El-Yaniv 2017 (arXiv:1705.08500).

    Raises:
        ValueError: `risk` is not in [0, 1].

    The surest two of four rows have no error, the surest three have one:

    >>> frame = pl.DataFrame({"confidence": [0.9, 0.8, 0.7, 0.6], "correct": [True, True, False, False]})
    >>> frame.select(coverage_at_risk(risk=0.1), threshold_at_risk(risk=0.1)).row(0)
    (0.5, 0.8)
    """
    errors, accepted, c = cumulative_errors(confidence, correct)
    largest = accepted.filter(errors / accepted <= _checked_risk(risk)).max().fill_null(0)
    return pl.when(c.len() > 0).then(largest / c.len()).alias("coverage_at_risk")


def threshold_at_risk(confidence: Column = "confidence", correct: Column = "correct", *, risk: float) -> pl.Expr:
    """The lowest threshold at which the accepted rows have an error rate of at most `risk`.

    Formula: the threshold of `coverage_at_risk`.
    Range: [0, 1]; a lower one accepts more. Unit: none. It is chosen on these rows, so that new rows have a higher risk
    than `risk` in over half of cases (docs/statistics.md): use `guaranteed_threshold` for a threshold that holds.
    Needs: the columns `confidence` and `correct`.
    Nulls: unjudged rows are left out; null where no threshold keeps the risk, or no row is judged.
    Source: Geifman and El-Yaniv 2017 (arXiv:1705.08500).

    Raises:
        ValueError: `risk` is not in [0, 1].

    The surer of two rows is wrong, so no threshold has a risk below 1/2:

    >>> frame = pl.DataFrame({"confidence": [0.9, 0.8], "correct": [False, True]})
    >>> frame.select(threshold_at_risk(risk=0.5), none=threshold_at_risk(risk=0.4)).row(0)
    (0.8, None)
    """
    errors, accepted, c = cumulative_errors(confidence, correct)
    return c.filter(errors / accepted <= _checked_risk(risk)).min().alias("threshold_at_risk")


def risk_coverage_curve(
    frame: pl.DataFrame | pl.LazyFrame,
    confidence: Column = "confidence",
    correct: Column = "correct",
    *,
    by: str | Sequence[str] | None = None,
) -> pl.LazyFrame:
    """The risk-coverage curve: one row per distinct confidence, highest first, and per group of `by`.

    Columns:

    - those of `by`
    - `threshold`: the confidence
    - `accepted`: the judged rows with at least that confidence
    - `errors`: the wrong ones among them
    - `coverage`: accepted / n
    - `risk`: errors / accepted
    - `generalised_risk`: errors / n

    Range: [0, 1], lower risk and higher coverage are better. Unit: none; of the counts, rows.
    Needs: the columns `confidence` and `correct`.
    Nulls: unjudged rows are left out; no judged row gives no rows.
    Source: El-Yaniv and Wiener 2010; generalised risk, Traub et al. 2024 (arXiv:2407.01032).

    One row is accepted at 0.9, without an error, and all three judged rows at 0.6, with one:

    >>> frame = pl.DataFrame({"confidence": [0.9, 0.6, 0.6, None], "correct": [True, False, True, True]})
    >>> curve = risk_coverage_curve(frame).collect()
    >>> curve.select("threshold", "accepted", pl.col("coverage", "risk").round(4)).rows()
    [(0.9, 1, 0.3333, 0.0), (0.6, 3, 1.0, 0.3333)]
    """
    groups = group_columns(by)
    rows, _ = judged_rows(frame, confidence, correct, groups)
    points = rows.select(*groups, threshold=CONFIDENCE, errors=(1.0 - pl.col(CORRECT)).cast(pl.Int64))
    counted = (
        points.group_by(*groups, "threshold")
        .agg(accepted=pl.len().cast(pl.Int64), errors=pl.col("errors").sum())
        .sort(*groups, "threshold", descending=[False] * len(groups) + [True], nulls_last=True)
    )
    sums = pl.col("accepted", "errors").cum_sum()
    summed = counted.with_columns(sums.over(groups) if groups else sums)
    total = pl.col("accepted").max()
    return summed.with_columns(total=total.over(groups) if groups else total).select(
        *groups,
        "threshold",
        "accepted",
        "errors",
        coverage=pl.col("accepted") / pl.col("total"),
        risk=pl.col("errors") / pl.col("accepted"),
        generalised_risk=pl.col("errors") / pl.col("total"),
    )


def accuracy_by_threshold(
    frame: pl.DataFrame | pl.LazyFrame,
    confidence: Column = "confidence",
    correct: Column = "correct",
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    by: str | Sequence[str] | None = None,
) -> pl.LazyFrame:
    """What each threshold accepts and sends to review, and how right both are: one row per threshold and group of `by`.

    Columns:

    - those of `by`
    - `threshold`
    - `accepted`, `reviewed`: the judged rows with a confidence of at least the threshold, and below it
    - `coverage`: accepted / n
    - `accuracy_accepted`, `accuracy_reviewed`: the share of right answers in each; null where there are none
    - `unjudged`: the rows of the group that are in no count
    - `coverage_low`, `coverage_high`, `accuracy_accepted_low`, `accuracy_accepted_high`: the exact 95 % intervals,
      those of `share_interval`, of independent rows

    Range: [0, 1], higher is better. Unit: none; of the counts, rows.
    Needs: the columns `confidence` and `correct`.
    Nulls: unjudged rows are counted in `unjudged`.
    Source: selective prediction, Geifman and El-Yaniv 2017 (arXiv:1705.08500); the intervals, Clopper and Pearson
    1934.

    Raises:
        ValueError: a threshold is not in [0, 1], or there is none.

    At 0.5, two rows are accepted, of which one is right; one is reviewed, and it is wrong:

    >>> frame = pl.DataFrame({"confidence": [0.9, 0.8, 0.3, None], "correct": [True, False, False, True]})
    >>> accuracy_by_threshold(frame, thresholds=[0.5]).collect().row(0)[:7]
    (0.5, 2, 1, 0.6666666666666666, 0.5, 0.0, 1)
    """
    if not thresholds or not all(0 <= threshold <= 1 for threshold in thresholds):
        raise ValueError(f"thresholds {list(thresholds)}: give at least one, each in [0, 1]")
    groups = group_columns(by)
    rows, unjudged = judged_rows(frame, confidence, correct, groups)
    limits = pl.Series(sorted({float(threshold) for threshold in thresholds}))
    # Rows that meet equally many thresholds are counted together, so the join with the thresholds stays small.
    thresholds_met = pl.lit(limits).search_sorted(pl.col(CONFIDENCE), side="right").cast(pl.Int64)
    counted = rows.group_by(*groups, thresholds_met=thresholds_met).agg(
        rows=pl.len().cast(pl.Int64), right=pl.col(CORRECT).sum()
    )
    grid = unjudged.join(pl.LazyFrame({"threshold": limits}).with_row_index("threshold_index"), how="cross")
    if groups:
        joined = grid.join(counted, on=groups, how="left", nulls_equal=True)
    else:
        joined = grid.join(counted, left_on=pl.lit(1), right_on=pl.lit(1), how="left")
    accepted = pl.col("thresholds_met") > pl.col("threshold_index")
    table = joined.group_by(*groups, "threshold", "unjudged").agg(
        accepted=pl.col("rows").filter(accepted).sum(),
        reviewed=pl.col("rows").filter(~accepted).sum(),
        right=pl.col("right").filter(accepted).sum(),
        right_reviewed=pl.col("right").filter(~accepted).sum(),
    )
    judged = pl.col("accepted") + pl.col("reviewed")
    coverage, right = _share(pl.col("accepted"), judged), _share(pl.col("right"), pl.col("accepted"))
    intervals = {
        "coverage": share_bounds(pl.col("accepted"), judged),
        "accuracy_accepted": share_bounds(pl.col("right"), pl.col("accepted")),
    }
    return table.sort(*groups, "threshold", nulls_last=True).select(
        *groups,
        *("threshold", "accepted", "reviewed"),
        coverage.alias("coverage"),
        right.alias("accuracy_accepted"),
        _share(pl.col("right_reviewed"), pl.col("reviewed")).alias("accuracy_reviewed"),
        "unjudged",
        *(
            bound.alias(f"{name}_{end}")
            for name, ends in intervals.items()
            for end, bound in zip(_ENDS, ends, strict=True)
        ),
    )


def _share(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    """Part / whole, null where the whole is 0."""
    return pl.when(whole > 0).then(part / whole)


def _checked_risk(risk: float) -> float:
    if not 0 <= risk <= 1:
        raise ValueError(f"risk {risk} is not an error rate in [0, 1]")
    return risk
