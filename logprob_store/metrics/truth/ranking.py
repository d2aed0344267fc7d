"""Does a confidence tell right answers from wrong ones: AUROC, AUPRC, and the areas under risk-coverage curves.

Polars expressions over a confidence and whether it was right, for any `select` or `group_by`. They see only the order
of confidences: any increasing function of one has the same values. Equal confidences are accepted together or not at
all, so the order of rows changes nothing. Leaves out the curves (`selective`) and honesty (`calibration`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from logprob_store.metrics.truth.judged_pairs import judged_pairs

if TYPE_CHECKING:
    from logprob_store.metrics.arguments import Column


def auroc(confidence: Column = "confidence", correct: Column = "correct") -> pl.Expr:
    """The area under the ROC curve: the chance that a right answer has more confidence than a wrong one; ties are half.

    Range [0, 1], up is better, 1/2 is no knowledge. Needs: confidence, correct. Source: Hanley and McNeil 1982, by Mann
    and Whitney's rank sum. Unjudged rows are left out; null unless there are right and wrong answers.

    Right ones have 0.9 and 0.5, the wrong one 0.5: one pair won and one tied, (1 + 1/2) / 2:

    >>> frame = pl.DataFrame({"confidence": [0.9, 0.5, 0.5], "correct": [True, True, False]})
    >>> frame.select(auroc()).item()
    0.75
    """
    c, y = judged_pairs(confidence, correct)
    right, wrong = y.sum(), (1.0 - y).sum()
    pairs_won = c.rank("average").filter(y == 1.0).sum() - right * (right + 1) / 2
    return pl.when((right > 0) & (wrong > 0)).then(pairs_won / (right * wrong)).alias("auroc")


def auprc(confidence: Column = "confidence", correct: Column = "correct", *, positive: bool = True) -> pl.Expr:
    """The area under the precision-recall curve, as average precision: sum over thresholds of (R_k - R_(k-1)) P_k.

    Range [0, 1], up is better; no knowledge gives the share of positives, so compare it only at one share. With
    `positive=False` the wrong answers are to be found, by 1 - confidence: the form to look at where errors are rare.
    Needs: confidence, correct. Source: average precision as in scikit-learn, which joins no points by straight lines;
    Davis and Goadrich 2006 say why. Unjudged rows are left out; null where there is nothing to be found.

    Recall 1/2 at precision 1, then recall 1 at precision 2/3: (1 + 2/3) / 2:

    >>> frame = pl.DataFrame({"confidence": [0.9, 0.6, 0.3], "correct": [True, False, True]})
    >>> round(frame.select(auprc()).item(), 6)
    0.833333
    """
    c, y = judged_pairs(confidence, correct)
    sought = y == (1.0 if positive else 0.0)
    sought_above = c.filter(sought).rank("max", descending=positive)
    rows_above = c.rank("max", descending=positive).filter(sought)
    return (sought_above / rows_above).mean().alias("auprc")


def aurc(confidence: Column = "confidence", correct: Column = "correct") -> pl.Expr:
    """The area under the risk-coverage curve: the mean over rows of the error rate among rows at least as sure.

    Range [0, 1], down is better; no knowledge gives the error rate. Most of it is that error rate: `excess_aurc` takes
    what no confidence could avoid away. Needs: confidence, correct. Source: Geifman et al. 2019 (arXiv:1805.08206),
    a mean over thresholds; equal confidences are one threshold. Unjudged rows are left out; none judged gives null.

    Error rates among the surest 1, 2 and 3 are 0, 1/2 and 1/3: their mean is 5/18:

    >>> frame = pl.DataFrame({"confidence": [0.9, 0.6, 0.3], "correct": [True, False, True]})
    >>> round(frame.select(aurc()).item(), 6)
    0.277778
    """
    errors, accepted, _ = cumulative_errors(confidence, correct)
    return (errors / accepted).mean().alias("aurc")


def excess_aurc(confidence: Column = "confidence", correct: Column = "correct") -> pl.Expr:
    """The AURC above that of the best order, in which every right answer is surer than every wrong one.

    Range [0, 1], down is better, 0 is the best order. Needs: confidence, correct. Source: Geifman et al. 2019
    (arXiv:1805.08206), E-AURC, with the exact sum for their integral. Unjudged rows are left out; none judged
    gives null.

    As in `aurc`; the best order has error rates 0, 0, 1/3, so 5/18 - 2/18:

    >>> frame = pl.DataFrame({"confidence": [0.9, 0.6, 0.3], "correct": [True, False, True]})
    >>> round(frame.select(excess_aurc()).item(), 6)
    0.166667
    """
    c, y = judged_pairs(confidence, correct)
    # any numbering of the rows does: the best order has max(0, k - right) errors among its first k
    number = c.rank("ordinal").cast(pl.Float64)
    best = ((number - y.sum()).clip(lower_bound=0.0) / number).mean()
    return (aurc(confidence, correct) - best).clip(lower_bound=0.0).alias("excess_aurc")


def augrc(confidence: Column = "confidence", correct: Column = "correct") -> pl.Expr:
    """The area under the generalised risk-coverage curve: the share of rows that are accepted errors, over coverage.

    The mean chance that a row is wrong and goes unnoticed. Range [0, 1/2], down is better; no knowledge gives half the
    error rate. Each error weighs alike, where AURC is ruled by errors among the few surest. Needs: confidence, correct.
    Source: Traub et al. 2024 (arXiv:2407.01032), equal to (1 - AUROC) a (1 - a) + (1 - a)^2 / 2 with accuracy a; equal
    confidences are joined by a straight line. Unjudged rows are left out; none judged gives null.

    The error joins between coverage 1/3 and 2/3, so the curve rises from 0 to 1/3 there: area 1/18, and 1/9 after it:

    >>> frame = pl.DataFrame({"confidence": [0.9, 0.6, 0.3], "correct": [True, False, True]})
    >>> round(frame.select(augrc()).item(), 6)
    0.166667
    """
    c, y = judged_pairs(confidence, correct)
    weight = (c.rank("average") - 0.5).filter(y == 0.0).sum()
    count = c.len().cast(pl.Float64)
    return pl.when(count > 0).then(weight / count.pow(2)).alias("augrc")


def cumulative_errors(confidence: Column, correct: Column) -> tuple[pl.Expr, pl.Expr, pl.Expr]:
    """For each judged row, taken as the threshold: the errors accepted, the rows accepted, and its confidence."""
    c, y = judged_pairs(confidence, correct)
    accepted = c.rank("max", descending=True)
    # the running count of errors, read off where the last of the equal confidences stands
    errors = (1.0 - y).sort_by(c, descending=True).cum_sum().gather(accepted - 1)
    return errors, accepted, c
