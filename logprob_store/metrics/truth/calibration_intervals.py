"""Intervals of calibration errors, and the floor that even a perfect calibrator has with so few rows.

A mean of absolute gaps is above 0 by chance alone, and resampling rows adds their chance once more: at 100 rows the
95 % bootstrap interval of an ECE holds the truth in a quarter of cases. So the question is turned around: which true
errors would often give an error such as the one that was measured? docs/statistics.md has how often that is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import polars as pl

from logprob_store.metrics.truth.judged_pairs import CONFIDENCE, CORRECT, judged_rows
from logprob_store.metrics.truth.shares import Interval

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray

    from logprob_store.metrics.arguments import Column

    Floats = NDArray[np.float64]

FEWEST_ROWS: Final = 20
# Each side leaves out this share of 1 - level, not a half, because the shape of the gaps is itself estimated.
_TAIL: Final = 0.3
_STRENGTHS: Final = (*(step / 10 for step in range(21)), *(2 + step / 4 for step in range(1, 17)))
_DRAWN_AT_ONCE: Final = 5_000_000
_FEWEST_DRAWS: Final = 50


class CalibrationError(pl.Expr):
    """The expression of a calibration error, which remembers of what it is, so that `bootstrap` can tell it apart.

    What is computed from it, such as the difference of two, is an ordinary expression.
    """

    confidence: Column
    correct: Column
    worst: bool
    bin_of: Callable[[pl.Expr], pl.Expr]
    has_interval: bool

    @classmethod
    def of(
        cls,
        expr: pl.Expr,
        *,
        confidence: Column,
        correct: Column,
        bin_of: Callable[[pl.Expr], pl.Expr],
        worst: bool = False,
        has_interval: bool = True,
    ) -> Self:
        """The expression, with the columns it is of, its bins, and whether it is the worst gap or their mean."""
        made = cls.__new__(cls)
        vars(made).update(vars(expr))
        made.confidence, made.correct, made.bin_of, made.worst = confidence, correct, bin_of, worst
        made.has_interval = has_interval
        return made

    def alias(self, name: str) -> Self:
        """The same under another name."""
        return self.of(
            super().alias(name),
            confidence=self.confidence,
            correct=self.correct,
            bin_of=self.bin_of,
            worst=self.worst,
            has_interval=self.has_interval,
        )


class _Bins(NamedTuple):
    """The judged rows by bin: how many, their mean confidence, mean confidence minus accuracy; float64[bins]."""

    counts: Floats
    means: Floats
    gaps: Floats
    independent_rows: int


def calibration_interval(
    frame: pl.DataFrame,
    metric: CalibrationError,
    *,
    groups: Sequence[str] = (),
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The interval of `ece`, `ace` or `mce`: the true errors under which the measured one is not unusual.

    Formula: the accuracy of bin b is taken to be its mean confidence minus s times its gap (towards the confidence by
    one row), for a range of strengths s of either sign. For each, `draws` sets of as many rows are drawn, and the
    strengths stay under which the measured error is in neither tail of 0.3 (1 - level). Low and high are the least and
    greatest true error of those.
    Range: [0, 1]; low is 0 where a perfect calibrator could look like this. Unit: none.
    Needs: at least 20 judged rows, of independent prompts; with `groups`, as many as vary like these. `mce` over bins
    of equal width has no interval: the bin with the largest gap may be one with few rows or none.
    Nulls: unjudged rows are left out. Where there is no interval, low and high are None.
    Source: an interval by inverting a test, Neyman 1937; the folded normal's bias, Bröcker 2012.
    """
    import numpy as np

    estimate = frame.select(metric).item()
    binned = _binned(frame, metric, list(groups))
    if estimate is None or not metric.has_interval or binned.independent_rows < FEWEST_ROWS:
        return Interval(estimate, None, None)
    weights = binned.counts / binned.counts.sum()
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(binned.independent_rows, weights, size=draws)  # int64[draws, bins]
    shape = binned.gaps * binned.counts / (binned.counts + 1)
    tail = _TAIL * (1 - level)
    lows, highs = [], []
    for sign in (1.0, -1.0):
        truths, at_least, at_most = [], [], []
        for strength in _STRENGTHS:
            accuracy = np.clip(binned.means - sign * strength * shape, 0.0, 1.0)
            gaps = np.abs(binned.means - accuracy)
            drawn = np.abs(counts * binned.means - generator.binomial(counts, accuracy))
            errors = _error(drawn, counts, worst=metric.worst)
            truths.append(float(gaps.max() if metric.worst else weights @ gaps))
            at_least.append(float((errors >= estimate - 1e-12).mean()))
            at_most.append(float((errors <= estimate + 1e-12).mean()))
        lows.append(_crossing(truths, at_least, tail))
        highs.append(_crossing(truths[::-1], at_most[::-1], tail))
    low = min((value for value in lows if value is not None), default=estimate)
    high = max((value for value in highs if value is not None), default=estimate)
    return Interval(estimate, low, max(low, high))


def calibration_floor(frame: pl.DataFrame, metric: pl.Expr, *, draws: int = 1000, seed: int = 0) -> float | None:
    """The calibration error that a perfect calibrator has on average with as many rows, confident as these.

    Formula: the mean of the metric over `draws` truths drawn for the rows, each right with the chance its confidence.
    Range: [0, 1]; an error near it is no sign of a dishonest confidence. Unit: none. With n rows in few bins it is
    about sqrt(bins / n) / 3.
    Needs: `ece`, `ace` or `mce` as the metric. Fewer draws are made of more than 5000 rows, at least 50.
    Nulls: unjudged rows are left out; no judged row gives None.
    Source: Bröcker and Smith 2007, consistency bars.

    Raises:
        TypeError: the metric is no calibration error.

    One row of confidence 1/2 is off by 1/2, right or wrong:

    >>> from logprob_store.metrics.truth.calibration import ece
    >>> calibration_floor(pl.DataFrame({"confidence": [0.5], "correct": [True]}), ece())
    0.5
    """
    import numpy as np

    if not isinstance(metric, CalibrationError):
        raise TypeError(f"{metric.meta.output_name()} has no floor; give ece(), ace() or mce()")
    rows = _judged(frame, metric, [])
    if not rows.height:
        return None
    confidence = rows[CONFIDENCE].to_numpy()
    number = rows["bin"].to_numpy()
    bins = int(number.max()) + 1
    counts = np.bincount(number, minlength=bins)
    generator = np.random.default_rng(seed)
    total = 0.0
    times = max(_FEWEST_DRAWS, min(draws, _DRAWN_AT_ONCE // rows.height))
    for _ in range(times):
        off = confidence - (generator.random(rows.height) < confidence)
        gaps = np.abs(np.bincount(number, weights=off, minlength=bins))
        total += float(_error(gaps[None, :], counts[None, :], worst=metric.worst)[0])
    return total / times


def _error(gaps: Floats, counts: NDArray[np.int64], *, worst: bool) -> Floats:
    """The error of each drawn set, from the sums of its gaps and its rows by bin."""
    import numpy as np

    if worst:
        largest: Floats = (gaps / np.maximum(counts, 1)).max(axis=-1)
        return largest
    mean: Floats = gaps.sum(axis=-1) / counts.sum(axis=-1)
    return mean


def _crossing(truths: list[float], chances: list[float], tail: float) -> float | None:
    """The first true error whose chance is above the tail, moved to where the line from the one before crosses it."""
    for number, (truth, chance) in enumerate(zip(truths, chances, strict=True)):
        if chance > tail:
            if number == 0:
                return truth
            before, beyond = truths[number - 1], chances[number - 1]
            return truth + (truth - before) * (tail - chance) / (chance - beyond)
    return None


def _judged(frame: pl.DataFrame, metric: CalibrationError, groups: list[str]) -> pl.DataFrame:
    rows, _ = judged_rows(frame, metric.confidence, metric.correct, groups)
    return rows.with_columns(bin=metric.bin_of(pl.col(CONFIDENCE))).collect()


def _binned(frame: pl.DataFrame, metric: CalibrationError, groups: list[str]) -> _Bins:
    rows = _judged(frame, metric, groups).with_columns(gap=pl.col(CONFIDENCE) - pl.col(CORRECT))
    bins = rows.group_by("bin").agg(
        count=pl.len().cast(pl.Float64), mean=pl.col(CONFIDENCE).mean(), mean_gap=pl.col("gap").mean()
    )
    bins = bins.sort("bin")
    independent = rows.height
    if groups:
        off = rows.with_columns(off=pl.col("gap") - pl.col("gap").mean().over("bin"))
        alone = off.select(pl.col("off").pow(2).sum()).item()
        together = off.group_by(groups).agg(pl.col("off").sum()).select(pl.col("off").pow(2).sum()).item()
        sizes = rows.group_by(groups).len()["len"]
        most = float((sizes**2).sum()) / rows.height if rows.height else 1.0
        # What answers to one prompt have in common, they say once: as many rows as would vary like these groups.
        effect = min(max(1.0, together / alone), most) if alone else most
        independent = int(rows.height / effect)
    return _Bins(bins["count"].to_numpy(), bins["mean"].to_numpy(), bins["mean_gap"].to_numpy(), independent)
