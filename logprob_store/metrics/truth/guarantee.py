"""A threshold with a guarantee: above it, the error rate on new rows stays below a target.

`threshold_at_risk` chooses a threshold on the rows at hand, without a guarantee: new rows pass its risk in over half of
cases.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, get_args

import polars as pl

from logprob_store.metrics.truth.judged_pairs import judged_pairs
from logprob_store.metrics.truth.shares import beta_quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logprob_store.metrics.arguments import Column

Procedure: TypeAlias = Literal["bonferroni", "fixed_sequence"]

GRID: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 0.99)


class GuaranteedThreshold(NamedTuple):
    """A threshold and its guarantee; `threshold` and `risk_bound` are None where no threshold has it.

    Attributes:
        threshold: accept rows with at least this confidence.
        risk_bound: the upper bound of the error rate among accepted rows.
        coverage: accepted / judged.
        accepted: the judged rows that are accepted.
        errors: the wrong ones among them.
        judged: the number of judged rows.
    """

    threshold: float | None
    risk_bound: float | None
    coverage: float
    accepted: int
    errors: int
    judged: int


def guaranteed_threshold(
    frame: pl.DataFrame | pl.LazyFrame,
    confidence: Column = "confidence",
    correct: Column = "correct",
    *,
    risk: float,
    failure: float = 0.05,
    thresholds: Sequence[float] = GRID,
    procedure: Procedure = "bonferroni",
) -> GuaranteedThreshold:
    """The lowest threshold whose error rate on new rows is at most `risk`, with probability at least 1 - `failure`.

    Formula: with e errors among the k rows that a threshold accepts, its error rate is at most the quantile 1 - f of
    Beta(e + 1, k - e). By "bonferroni", f is failure / (number of thresholds), and the lowest threshold with a bound of
    at most `risk` is taken; few thresholds are better than many. By "fixed_sequence", f is the whole failure, and
    thresholds are tried from the highest down, until one fails; those that accept too few rows to pass even without an
    error, fewer than ln(failure) / ln(1 - risk), are passed over. The last that did not fail is taken.
    Range: [0, 1]; a lower one accepts more. Unit: none.
    Needs: the columns `confidence` and `correct`. The guarantee holds where new rows are like these and rows are
    independent, which several answers to one prompt are not. Do not choose `thresholds` by looking at these rows.
    "fixed_sequence" finds a threshold far more often (docs/statistics.md). Its condition: surer rows err no more often
    than less sure ones, so use it for a confidence that ranks answers (see `auroc`). Where they err more often, it can
    start at a threshold that it should not, or stop before it reaches a good one.
    Nulls: unjudged rows are left out.
    Source: Clopper and Pearson 1934; Geifman and El-Yaniv 2017 (arXiv:1705.08500); Angelopoulos et al. 2021, Learn then
    Test (arXiv:2110.01052).

    Raises:
        ValueError: `risk` or `failure` is not in (0, 1), a threshold is not in [0, 1], there is none, or `procedure` is
            unknown.

    With 100 rows, all right, and one threshold the bound is 1 - 0.05^(1/100) = 0.029513:

    >>> frame = pl.DataFrame({"confidence": [0.9] * 100, "correct": True})
    >>> found = guaranteed_threshold(frame, risk=0.03, thresholds=[0.5])
    >>> found.threshold, round(found.risk_bound, 6), found.accepted
    (0.5, 0.029513, 100)
    >>> guaranteed_threshold(frame, risk=0.02, thresholds=[0.5]).threshold is None
    True
    """
    for name, value in (("risk", risk), ("failure", failure)):
        if not 0 < value < 1:
            raise ValueError(f"{name} {value} is not between 0 and 1")
    if not thresholds or not all(0 <= threshold <= 1 for threshold in thresholds):
        raise ValueError(f"thresholds {list(thresholds)}: give at least one, each in [0, 1]")
    if procedure not in get_args(Procedure):
        raise ValueError(f"procedure {procedure!r} is none of {', '.join(get_args(Procedure))}")
    confidences, truths = judged_pairs(confidence, correct)
    rows = frame.lazy().select(confidences.alias("confidence"), truths.alias("correct")).collect()
    grid = sorted({float(threshold) for threshold in thresholds})
    if procedure == "fixed_sequence":
        passed = _passed_in_sequence(rows, grid, risk, failure)
    else:
        bounded = [_bounded(rows, threshold, failure / len(grid)) for threshold in grid]
        passed = [found for found in bounded if _within(found, risk)]
    return passed[0] if passed else GuaranteedThreshold(None, None, 0.0, 0, 0, rows.height)


def _passed_in_sequence(
    rows: pl.DataFrame, grid: list[float], risk: float, failure: float
) -> list[GuaranteedThreshold]:
    """The thresholds that pass one after the other from the highest down, the lowest first."""
    fewest = math.log(failure) / math.log1p(-risk)
    passed: list[GuaranteedThreshold] = []
    for threshold in reversed(grid):
        found = _bounded(rows, threshold, failure)
        if found.accepted < fewest:
            continue
        if not _within(found, risk):
            break
        passed.insert(0, found)
    return passed


def _bounded(rows: pl.DataFrame, threshold: float, failure: float) -> GuaranteedThreshold:
    """What a threshold accepts, and the bound of its error rate that holds with probability 1 - `failure`."""
    truths = rows.filter(pl.col("confidence") >= threshold)["correct"]
    accepted, errors = len(truths), int((truths == 0.0).sum())
    bound = 1.0 - beta_quantile(failure, accepted - errors, errors + 1) if errors < accepted else 1.0
    return GuaranteedThreshold(threshold, bound, accepted / max(1, rows.height), accepted, errors, rows.height)


def _within(found: GuaranteedThreshold, risk: float) -> bool:
    return found.risk_bound is not None and found.risk_bound <= risk
