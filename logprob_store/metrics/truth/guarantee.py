"""A threshold with a guarantee: above it, the error rate on new rows stays below a target.

`threshold_at_risk` chooses a threshold on the rows at hand, without a guarantee. This one needs SciPy, from the extra
`analysis`.
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
) -> GuaranteedThreshold:
    """The lowest threshold whose error rate on new rows is at most `risk`, with probability at least 1 - `failure`.

    Formula: the lowest threshold whose Clopper-Pearson upper bound of the error rate is at most `risk`. With e errors
    among k accepted rows, the bound is the quantile 1 - failure / (number of thresholds) of Beta(e + 1, k - e). The
    failure is divided among the thresholds (Bonferroni), so few thresholds are better than many.
    Range: [0, 1]; a lower one accepts more. Unit: none.
    Needs: the columns `confidence` and `correct`. The guarantee holds where new rows are like these and rows are
    independent, which several answers to one prompt are not. Do not choose `thresholds` by looking at these rows.
    Nulls: unjudged rows are left out.
    Source: Clopper and Pearson 1934; Geifman and El-Yaniv 2017 (arXiv:1705.08500); Angelopoulos et al. 2021, Learn then
    Test (arXiv:2110.01052).

    Raises:
        ValueError: `risk` or `failure` is not in (0, 1), a threshold is not in [0, 1], or there is none.
        ImportError: SciPy is not installed; it comes with the extra `analysis`.

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
