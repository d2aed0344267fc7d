"""Ranking metrics: how well a confidence tells right answers from wrong ones.

They depend only on the order of the confidences: any increasing function of the confidence has the same values. Equal
confidences are accepted together or not at all, so the order of rows does not matter. The curve itself is
`risk_coverage_curve`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from logprob_store.metrics.truth.judged_metric import JudgedMetric
from logprob_store.metrics.truth.judged_pairs import judged_pairs
from logprob_store.metrics.truth.ranking_interval import Ranking

if TYPE_CHECKING:
    from logprob_store.metrics.arguments import Column


def auroc(confidence: Column = "confidence", correct: Column = "correct") -> pl.Expr:
    """The area under the ROC curve: the chance that a right answer has a higher confidence than a wrong one.

    Formula: (pairs of a right and a wrong answer in which the right one is surer + ties / 2) / all such pairs.
    Range: [0, 1], higher is better; 1/2 is no discrimination. Unit: none.
    Needs: the columns `confidence` and `correct`.
    Nulls: unjudged rows are left out; null unless there are both right and wrong answers.
    Source: Hanley and McNeil 1982, computed by the rank sum of Mann and Whitney.

    Right answers have 0.9 and 0.5, the wrong one 0.5: one pair is won and one tied, (1 + 1/2) / 2 = 0.75.

    >>> frame = pl.DataFrame({"confidence": [0.9, 0.5, 0.5], "correct": [True, True, False]})
    >>> frame.select(auroc()).item()
    0.75
    """
    c, y = judged_pairs(confidence, correct)
    right, wrong = y.sum(), (1.0 - y).sum()
    pairs_won = c.rank("average").filter(y == 1.0).sum() - right * (right + 1) / 2
    share = pl.when((right > 0) & (wrong > 0)).then(pairs_won / (right * wrong)).alias("auroc")
    return Ranking.of(share, confidence, correct, auroc)


def auprc(confidence: Column = "confidence", correct: Column = "correct", *, positive: bool = True) -> pl.Expr:
    """The area under the precision-recall curve, as average precision.

    Formula: sum over thresholds k of (R_k - R_(k-1)) P_k, with recall R and precision P. With `positive=False` the
    wrong answers are sought, by 1 - confidence: the form to use where errors are rare.
    Range: [0, 1], higher is better; no discrimination gives the share of the answers sought, so compare it only at the
    same share. Unit: none.
    Needs: the columns `confidence` and `correct`.
    Nulls: unjudged rows are left out; null where no judged row is of the kind sought.
    Source: average precision as in scikit-learn, which does not join the points by straight lines, for the reasons
    given by Davis and Goadrich 2006.

    Recall 1/2 at precision 1, then recall 1 at precision 2/3: (1 + 2/3) / 2 = 0.833333.

    >>> frame = pl.DataFrame({"confidence": [0.9, 0.6, 0.3], "correct": [True, False, True]})
    >>> round(frame.select(auprc()).item(), 6)
    0.833333
    """
    c, y = judged_pairs(confidence, correct)
    sought = y == (1.0 if positive else 0.0)
    sought_above = c.filter(sought).rank("max", descending=positive)
    rows_above = c.rank("max", descending=positive).filter(sought)
    precision = (sought_above / rows_above).mean().alias("auprc")
    return JudgedMetric.of(precision, confidence, correct, partial(auprc, positive=positive))


def aurc(confidence: Column = "confidence", correct: Column = "correct") -> pl.Expr:
    """The area under the risk-coverage curve: the mean error rate over all thresholds.

    Formula: mean over rows i of the error rate among the rows with c >= c_i.
    Range: [0, 1], lower is better; no discrimination gives the error rate of all rows. Unit: none. It contains errors
    that no confidence could avoid; `excess_aurc` takes these away.
    Needs: the columns `confidence` and `correct`.
    Nulls: unjudged rows are left out; no judged row gives null.
    Source: Geifman et al. 2019 (arXiv:1805.08206), with equal confidences as one threshold.

    The error rates among the surest 1, 2 and 3 rows are 0, 1/2 and 1/3; their mean is 5/18 = 0.277778.

    >>> frame = pl.DataFrame({"confidence": [0.9, 0.6, 0.3], "correct": [True, False, True]})
    >>> round(frame.select(aurc()).item(), 6)
    0.277778
    """
    errors, accepted, _ = cumulative_errors(confidence, correct)
    return JudgedMetric.of((errors / accepted).mean().alias("aurc"), confidence, correct, aurc)


def excess_aurc(confidence: Column = "confidence", correct: Column = "correct") -> pl.Expr:
    """The excess AURC: how far `aurc` is above that of the best order, in which all right answers are surer.

    Formula: aurc - mean over k = 1 to n of max(0, k - right answers) / k.
    Range: [0, 1], lower is better; 0 is the best order. Unit: none.
    Needs: the columns `confidence` and `correct`.
    Nulls: unjudged rows are left out; no judged row gives null.
    Source: Geifman et al. 2019 (arXiv:1805.08206), E-AURC, with the exact sum in place of their integral.

    The example of `aurc` has 5/18; its best order has error rates 0, 0 and 1/3, so 5/18 - 2/18 = 0.166667.

    >>> frame = pl.DataFrame({"confidence": [0.9, 0.6, 0.3], "correct": [True, False, True]})
    >>> round(frame.select(excess_aurc()).item(), 6)
    0.166667
    """
    c, y = judged_pairs(confidence, correct)
    # Any numbering of the rows will do: the best order has max(0, k - right answers) errors among its first k.
    number = c.rank("ordinal").cast(pl.Float64)
    best = ((number - y.sum()).clip(lower_bound=0.0) / number).mean()
    excess = (aurc(confidence, correct) - best).clip(lower_bound=0.0).alias("excess_aurc")
    return JudgedMetric.of(excess, confidence, correct, excess_aurc)


def augrc(confidence: Column = "confidence", correct: Column = "correct") -> pl.Expr:
    """The area under the generalised risk-coverage curve: the mean chance that a row is wrong and accepted.

    Formula: the integral over coverage of (accepted errors / n), with equal confidences joined by a straight line;
    equal to (1 - AUROC) a (1 - a) + (1 - a)^2 / 2, a the accuracy.
    Range: [0, 1/2], lower is better; no discrimination gives half the error rate. Unit: none. Each error weighs the
    same, while errors among the surest few rows dominate `aurc`.
    Needs: the columns `confidence` and `correct`.
    Nulls: unjudged rows are left out; no judged row gives null.
    Source: Traub et al. 2024 (arXiv:2407.01032).

    The curve is 0 up to coverage 1/3, rises to 1/3 at coverage 2/3 and stays there: areas 0 + 1/18 + 1/9 = 0.166667.

    >>> frame = pl.DataFrame({"confidence": [0.9, 0.6, 0.3], "correct": [True, False, True]})
    >>> round(frame.select(augrc()).item(), 6)
    0.166667
    """
    c, y = judged_pairs(confidence, correct)
    weight = (c.rank("average") - 0.5).filter(y == 0.0).sum()
    count = c.len().cast(pl.Float64)
    area = pl.when(count > 0).then(weight / count.pow(2)).alias("augrc")
    return JudgedMetric.of(area, confidence, correct, augrc)


def cumulative_errors(confidence: Column, correct: Column) -> tuple[pl.Expr, pl.Expr, pl.Expr]:
    """For each judged row, with its confidence as the threshold: errors accepted, rows accepted, the threshold."""
    c, y = judged_pairs(confidence, correct)
    accepted = c.rank("max", descending=True)
    # The running count of errors, taken at the last of the rows with this confidence.
    errors = (1.0 - y).sort_by(c, descending=True).cum_sum().gather(accepted - 1)
    return errors, accepted, c
