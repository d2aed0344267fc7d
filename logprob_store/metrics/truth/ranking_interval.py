"""The interval of an AUROC, which also holds where all right answers are above all wrong ones.

Resampling a perfect ranking gives perfect rankings, so the bootstrap says [1, 1] of 3 wrong answers in 20. The score
interval asks instead which true AUROC would often give the one that was measured.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Final, NamedTuple

import polars as pl

from logprob_store.metrics.truth.judged_metric import JudgedMetric
from logprob_store.metrics.truth.judged_pairs import CORRECT
from logprob_store.metrics.truth.shares import ENOUGH_GROUPS, Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

_HALVINGS: Final = 60


class Ranking(JudgedMetric):
    """The expression of an AUROC."""


class _Answers(NamedTuple):
    """The judged answers: how many are right and wrong, and how many groups have such, of which mean size."""

    right: int
    wrong: int
    groups_of_rarer: int
    alike: float


def ranking_interval(
    frame: pl.DataFrame, metric: Ranking, resampled: pl.Series, *, groups: Sequence[str] = (), level: float = 0.95
) -> Interval:
    """The interval of an AUROC: the true ones from which the measured one is at most z standard deviations away.

    Formula: the A with |a - A| <= z sqrt(f V(A)). V(A) = A (1 - A) (1 + N (1 - A) / (2 - A) + N A / (1 + A)) / (r w),
    with r right and w wrong answers and N = (r + w) / 2 - 1. f is by how much the resamples vary more than V(a) says,
    at least 1; where fewer than ten groups have the rarer truth, at least the size of the groups.
    Range: [0, 1]. Unit: none.
    Source: method 5 of Newcombe 2006, with the variance of Hanley and McNeil 1982.
    """
    estimate = frame.select(metric).item()
    answers = _answers(frame, metric, list(groups))
    if estimate is None or not answers.right or not answers.wrong:
        return Interval(estimate, None, None)
    said, seen, few = _variance(estimate, answers), resampled.var(), answers.groups_of_rarer
    factor = 1.0 if few >= ENOUGH_GROUPS else answers.alike
    if said > 0 and few > 1 and isinstance(seen, float):
        # Resamples of few answers vary less than the answers do.
        factor = max(factor, seen / said * few / (few - 1))
    z = NormalDist().inv_cdf((1 + level) / 2)

    def end(outermost: float) -> float:
        near, far = float(estimate), outermost
        for _ in range(_HALVINGS):
            middle = (near + far) / 2
            within = abs(middle - estimate) <= z * math.sqrt(factor * _variance(middle, answers))
            near, far = (middle, far) if within else (near, middle)
        return near

    return Interval(estimate, end(0.0), end(1.0))


def _variance(auroc: float, answers: _Answers) -> float:
    pairs = (answers.right + answers.wrong) / 2 - 1
    shape = 1 + pairs * (1 - auroc) / (2 - auroc) + pairs * auroc / (1 + auroc)
    return auroc * (1 - auroc) * shape / (answers.right * answers.wrong)


def _answers(frame: pl.DataFrame, metric: Ranking, groups: list[str]) -> _Answers:
    rows, _ = metric.judged(frame, groups)
    right = int(rows[CORRECT].sum())
    by_group = rows.group_by(groups).agg(rows=pl.len(), right=pl.col(CORRECT).sum()) if groups else None
    if by_group is None:
        return _Answers(right, rows.height - right, min(right, rows.height - right), 1.0)
    of_rarer = min(int((by_group["right"] > 0).sum()), int((by_group["right"] < by_group["rows"]).sum()))
    sizes = by_group["rows"].cast(pl.Float64)
    return _Answers(right, rows.height - right, of_rarer, float((sizes**2).sum()) / max(rows.height, 1))
