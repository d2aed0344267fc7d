"""Metrics of confidence against truth that remember of what they are: `bootstrap` asks them what was not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from logprob_store.metrics.truth.judged_pairs import CONFIDENCE, CORRECT, judged_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from logprob_store.metrics.arguments import Column

    Metric = Callable[[Column, Column], pl.Expr]


class JudgedMetric(pl.Expr):
    """The expression of a metric of judged answers; what is computed from it is an ordinary expression."""

    confidence: Column
    correct: Column
    metric: Metric

    @classmethod
    def of(cls, expr: pl.Expr, confidence: Column, correct: Column, metric: Metric) -> Self:
        """The expression, with the columns it is of, and the function that makes it for other columns."""
        made = cls.__new__(cls)
        vars(made).update(vars(expr))
        made.confidence, made.correct, made.metric = confidence, correct, metric
        return made

    def alias(self, name: str) -> Self:
        """The same under another name."""
        return self.of(super().alias(name), self.confidence, self.correct, self.metric)

    def judged(self, frame: pl.DataFrame, groups: list[str]) -> tuple[pl.DataFrame, pl.Expr]:
        """The judged rows, and the metric of these."""
        rows = judged_rows(frame, self.confidence, self.correct, groups)[0].collect()
        return rows, self.metric(CONFIDENCE, CORRECT)


def with_truths_turned(rows: pl.DataFrame) -> pl.DataFrame:
    """The judged rows, and behind them the same with right answers wrong, and wrong ones right."""
    return pl.concat([rows, rows.with_columns((1.0 - pl.col(CORRECT)).alias(CORRECT))])
