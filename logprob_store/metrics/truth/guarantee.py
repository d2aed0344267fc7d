"""A threshold with a guarantee: accept above it, and the error rate stays below a target.

Leaves out thresholds that merely do well on the rows at hand (`selective`). Needs SciPy, which the extra `analysis`
brings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import polars as pl

from logprob_store.extras import import_extra
from logprob_store.metrics.truth.judged_pairs import judged_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logprob_store.metrics.arguments import Column

GRID: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 0.99)


class GuaranteedThreshold(NamedTuple):
    """A threshold and what is known of it; `threshold` and `risk_bound` are null where none has the guarantee."""

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
) -> GuaranteedThreshold:
    """The lowest threshold whose error rate on new rows is at most `risk`, wrongly so with a chance of `failure`.

    Each threshold of a grid fixed beforehand is tested: Clopper and Pearson's exact upper bound of the error rate
    among what it accepts, at failure / (number of thresholds), must not be above `risk`. That share of the failure
    (Bonferroni) is the price of choosing among them, so few thresholds are better than many. Source: Clopper and
    Pearson 1934; Geifman and El-Yaniv 2017 (arXiv:1705.08500); Angelopoulos et al. 2021, Learn then Test
    (arXiv:2110.01052).

    It holds if new rows are as these and rows are independent; several answers to one prompt are not. Do not pick the
    grid by looking at these rows. Unjudged rows are left out.

    Raises:
        ValueError: risk or failure not in (0, 1), a threshold not in [0, 1], or none.
        ImportError: SciPy is not installed; it comes with the extra `analysis`.

    100 rows, all right: the bound with one threshold is 1 - 0.05^(1/100) = 0.029513:

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
    beta = import_extra("scipy.stats").beta
    confidences, truths = judged_pairs(confidence, correct)
    rows = frame.lazy().select(confidences.alias("confidence"), truths.alias("correct")).collect()
    failure_each = failure / len(set(thresholds))
    for threshold in sorted(set(thresholds)):
        accepted_truths = rows.filter(pl.col("confidence") >= threshold)["correct"]
        accepted, errors = len(accepted_truths), int((accepted_truths == 0.0).sum())
        bound = float(beta.ppf(1 - failure_each, errors + 1, accepted - errors)) if errors < accepted else 1.0
        if bound <= risk:
            return GuaranteedThreshold(threshold, bound, accepted / rows.height, accepted, errors, rows.height)
    return GuaranteedThreshold(None, None, 0.0, 0, 0, rows.height)
