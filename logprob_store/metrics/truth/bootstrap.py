"""Intervals: of any metric, over rows or over groups of rows that are not independent, with a seed.

A resample is drawn as row indices, and the metrics are evaluated on many resamples at once in one `group_by`, so every
polars expression can have an interval. Shares and calibration errors, where resampling fails, have their own.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, get_args

import polars as pl

from logprob_store.metrics.truth.calibration_intervals import CalibrationError, calibration_interval
from logprob_store.metrics.truth.judged_metric import JudgedMetric, with_truths_turned
from logprob_store.metrics.truth.judged_pairs import group_columns
from logprob_store.metrics.truth.ranking_interval import Ranking, ranking_interval
from logprob_store.metrics.truth.share_expressions import share_intervals
from logprob_store.metrics.truth.shares import Interval, t_quantile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Indices: TypeAlias = NDArray[np.int64]

Method: TypeAlias = Literal["percentile", "bca"]

_ROWS_AT_ONCE: Final = 500_000
_JACKKNIFE_BLOCKS: Final = 200
_RESAMPLE: Final = "__resample"
_NORMAL: Final = NormalDist()
_FEWEST_DRAWS: Final = 200

_Row: TypeAlias = tuple[str, float | None, float | None, float | None, int]


class _Bca(NamedTuple):
    """What BCa corrects by: the estimate, its values without each block, and the rows or groups that are drawn."""

    estimate: float
    jackknife: pl.Series
    units: int


class _Draws(NamedTuple):
    """How intervals are drawn: the arguments of `bootstrap`."""

    groups: list[str]
    resamples: int
    level: float
    method: Method
    seed: int


def bootstrap(
    frame: pl.DataFrame,
    metrics: pl.Expr | Sequence[pl.Expr],
    *,
    groups: str | Sequence[str] | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    method: Method = "bca",
    seed: int = 0,
) -> pl.DataFrame:
    """Intervals of metrics: one row per metric, by bootstrap but for shares, their differences and calibration errors.

    Columns:

    - `metric`: the name of the expression
    - `estimate`: its value on the rows as they are
    - `low`, `high`: the ends of the interval
    - `resamples`: the resamples on which the metric is defined; 0 where the interval needs none

    Formula: by "percentile", the quantiles (1 - level) / 2 and (1 + level) / 2 of the metric over the resamples. By
    "bca", quantiles corrected for bias and skew, with a jackknife over at most 200 blocks, and widened for few rows by
    the ratio of Student's t with n - 1 degrees of freedom to the normal, times sqrt(n / (n - 1)); that of `brier`,
    `nll`, `aurc` and their like is as far out as it is with one more row, whose truth is that of another turned round;
    an `auroc` has the score interval, whose variance is at least that of the resamples. Three kinds have an interval of
    their own, whatever the method:

    - a share, that of `share_interval` or `grouped_share_interval`: the mean of true and false or of the whole numbers
      0 and 1, also cast to another type; a sum of these, or a number of rows, divided by a number of rows, as
      `pl.col("right").sum() / pl.len()`; and 1 minus a share. Of numbers with a point, such as 0.0 and 1.0, it cannot
      know: cast them to Boolean
    - the difference of two shares, that of `paired_share_interval` where both are of the same rows, and of
      `share_difference_interval` where they are not; the mean of differences of true and false, or of the whole numbers
      -1, 0 and 1
    - `ece`, `ace` and `mce`, for which resampling fails (docs/statistics.md): the true errors under which the measured
      one would not be unusual, from 20 rows on, and none for `mce` over bins of equal width

    Range: that of the metric. Unit: that of the metric.
    Needs: a frame in memory. Several answers to one prompt are not independent: with `groups="prompt_id"`, whole groups
    are drawn. The difference of two expressions has a paired interval: `(ls.auroc("a") - ls.auroc("b")).alias("gain")`.
    Nulls: a resample on which the metric is null or NaN (AUROC where all answers are right) is left out; where fewer
    than half of the resamples are left, low and high are null.
    Source: percentile, Efron 1979; BCa, Efron 1987; widened for few rows, Hesterberg 2015 (arXiv:1411.5279); AUROC,
    method 5 of Newcombe 2006.
    Memory: resamples of about 500,000 rows together at a time, at least one resample.

    Args:
        frame: one row per observation.
        metrics: aggregating expressions with different names.
        groups: the column or columns that identify a group; single rows are drawn when None.
        resamples: the number of resamples.
        level: the share of such intervals that hold the true value.
        method: "percentile" or "bca".
        seed: the same seed, rows and order give the same numbers.

    Raises:
        ValueError: there are no rows, `level` is not in (0, 1), `resamples` is below 1, `method` is unknown, or a group
            is null.

    The mean of equal values does not vary:

    >>> bootstrap(pl.DataFrame({"x": [2.0, 2.0]}), pl.col("x").mean(), resamples=10).row(0)
    ('x', 2.0, 2.0, 2.0, 10)
    """
    _check_arguments(level, resamples, method)
    exprs = [metrics] if isinstance(metrics, pl.Expr) else list(metrics)
    if not frame.height:
        raise ValueError("there are no rows to draw from; an interval needs at least one")
    how = _Draws(group_columns(groups), resamples, level, method, seed)
    if how.groups:
        _check_no_null_group(frame, how.groups)
    rows: list[_Row] = []
    resampled: list[pl.Expr] = []
    for expr in exprs:
        own = _interval_of_its_own(frame, expr, how)
        rows += own
        resampled += [] if own else [expr]
    if resampled:
        rows += _resampled_rows(frame, resampled, how)
    order = {name: number for number, name in enumerate(frame.lazy().select(exprs).collect_schema())}
    rows.sort(key=lambda row: order[row[0]])
    schema = {"metric": pl.String, "estimate": pl.Float64, "low": pl.Float64, "high": pl.Float64, "resamples": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _interval_of_its_own(frame: pl.DataFrame, expr: pl.Expr, how: _Draws) -> list[_Row]:
    """The rows of an expression that is not resampled, or none."""
    if isinstance(expr, CalibrationError):
        draws = max(how.resamples, _FEWEST_DRAWS)
        found = calibration_interval(frame, expr, groups=how.groups, draws=draws, level=how.level, seed=how.seed)
        return [(expr.meta.output_name(), *found, 0)]
    intervals = share_intervals(frame, expr, groups=how.groups, level=how.level)
    if intervals is None:
        return []
    names = frame.lazy().select(expr).collect_schema().names()
    return [(name, *interval, 0) for name, interval in zip(names, intervals, strict=True)]


def _resampled_rows(frame: pl.DataFrame, exprs: list[pl.Expr], how: _Draws) -> list[_Row]:
    estimates = frame.select(exprs)
    draw = _resampler(frame, how.groups, how.seed)
    resampled = _evaluate(frame, exprs, (draw() for _ in range(how.resamples)))
    jackknife = _evaluate(frame, exprs, _jackknife_rows(frame, how.groups)) if how.method == "bca" else None
    units = frame.select(pl.struct(how.groups).n_unique()).item() if how.groups else frame.height
    judged = {expr.meta.output_name(): expr for expr in exprs if isinstance(expr, JudgedMetric)}
    rows: list[_Row] = []
    for name in estimates.columns:
        estimate = _metric_value(estimates[name].item())
        values = _defined_values(resampled[name])
        low = high = None
        if estimate is not None and 2 * values.len() >= how.resamples:
            bca = None if jackknife is None else _Bca(estimate, _defined_values(jackknife[name]), units)
            metric = judged.get(name) if bca else None
            if isinstance(metric, Ranking):
                low, high = ranking_interval(frame, metric, values, groups=how.groups, level=how.level)[1:]
            else:
                low, high = _interval(values, how.level, bca)
                if metric is not None:
                    low, high = _allowing_for_the_unseen(frame, metric, (low, high), how)
        rows.append((name, estimate, low, high, values.len()))
    return rows


def _allowing_for_the_unseen(
    frame: pl.DataFrame, metric: JudgedMetric, interval: tuple[float | None, float | None], how: _Draws
) -> tuple[float | None, float | None]:
    """The interval, as far out as resamples of the rows and of one more whose truth is not what it seems.

    No resample of right answers has a wrong one. So each row, or group, is drawn with its truth turned round once in n
    + 1 times.
    """
    rows, expr = metric.judged(frame, how.groups)
    draw = _resampler(rows, how.groups, how.seed, turned=True)
    drawn = _evaluate(with_truths_turned(rows), [expr], (draw() for _ in range(how.resamples)))
    values = _defined_values(drawn.to_series())
    units = rows.select(pl.struct(how.groups).n_unique()).item() if how.groups else rows.height
    deviate = _deviate(how.level, units)
    ends = (values.quantile(_NORMAL.cdf(side * deviate), interpolation="linear") for side in (-1, 1))
    low, high = ([one for one in pair if one is not None] for pair in zip(interval, ends, strict=True))
    return min(low, default=None), max(high, default=None)


def bootstrap_mean(
    values: pl.Series,
    *,
    groups: pl.Series | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The bootstrap interval of a mean, for millions of values.

    Formula: "bca" of `bootstrap`. With `groups`, whole groups are drawn, and the mean is the sum of the drawn values
    over their number. True and false, the whole numbers 0 and 1, and -1, 0 and 1 have the interval of a share or of a
    difference of two, as in `bootstrap`.
    Range: that of the values. Unit: that of the values.
    Needs: finite numbers. The interval of paired differences, one per prompt, is the paired interval.
    Nulls: left out; no value gives an interval of None.
    Source: Efron 1987; Hesterberg 2015 (arXiv:1411.5279).
    Memory: the weights of one resample. A million values and 1000 resamples take under half a minute.

    Args:
        values: the numbers.
        groups: the group of each value, of the same length.
        resamples: the number of resamples.
        level: the share of such intervals that hold the true mean.
        seed: the same seed, values and order give the same numbers.

    Raises:
        ValueError: a value is NaN or infinite, `groups` has another length or nulls, `level` is not in (0, 1), or
            `resamples` is below 1.

    The mean of equal values does not vary:

    >>> bootstrap_mean(pl.Series([1.0, None, 1.0]), resamples=10)
    Interval(estimate=1.0, low=1.0, high=1.0)
    >>> bootstrap_mean(pl.Series([], dtype=pl.Float64))
    Interval(estimate=None, low=None, high=None)
    """
    import numpy as np

    _check_arguments(level, resamples, "percentile")
    if groups is not None and len(groups) != len(values):
        raise ValueError(f"{len(values)} values and {len(groups)} groups; give one group for each value")
    rows = pl.DataFrame({"value": values.cast(pl.Float64), "group": range(len(values)) if groups is None else groups})
    rows = rows.drop_nulls("value")
    if not rows.height:
        return Interval(None, None, None)
    if not rows["value"].is_finite().all():
        raise ValueError("a value is NaN or infinite, so the mean is too; leave such rows out and say how many")
    _check_no_null_group(rows, ["group"])
    of_share = share_intervals(
        rows.with_columns(pl.col("value").cast(values.dtype)), pl.col("value").mean(), groups=["group"], level=level
    )
    if of_share is not None:
        return of_share[0]
    by_group = rows.group_by("group", maintain_order=True).agg(total=pl.col("value").sum(), count=pl.len())
    totals, counts = by_group["total"].to_numpy(), by_group["count"].to_numpy().astype(np.float64)  # float64[groups]
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    for number in range(resamples):
        chosen = generator.integers(0, len(totals), len(totals), dtype=np.uint32)
        weights = np.bincount(chosen, minlength=len(totals)).astype(np.float64)
        means[number] = (weights @ totals) / (weights @ counts)
    estimate = float(totals.sum() / counts.sum())
    without = (totals.sum() - totals) / (counts.sum() - counts) if len(totals) > 1 else np.empty(0)
    low, high = _interval(pl.Series(means), level, _Bca(estimate, pl.Series(without), len(totals)))
    return Interval(estimate, low, high)


def _check_arguments(level: float, resamples: int, method: str) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level {level} is not between 0 and 1; 0.95 is usual")
    if resamples < 1:
        raise ValueError(f"resamples {resamples}: at least one is needed, 1000 are usual")
    if method not in get_args(Method):
        raise ValueError(f"bootstrap method {method!r} is none of {', '.join(get_args(Method))}")


def _check_no_null_group(frame: pl.DataFrame, groups: list[str]) -> None:
    missing = frame.select(pl.any_horizontal(pl.col(groups).is_null()).arg_true())[groups[0]]
    if len(missing):
        raise ValueError(f"row {missing[0]} has no group in {', '.join(groups)}; give each row one, or leave it out")


def _rows_by_group(frame: pl.DataFrame, groups: list[str]) -> tuple[Indices, Indices, Indices]:
    """Row indices ordered by group, int64[rows]; the start of each group in them and its size, int64[groups]."""
    import numpy as np

    lists = frame.lazy().with_row_index(_RESAMPLE).group_by(groups, maintain_order=True).agg(_RESAMPLE).collect()
    sizes = lists[_RESAMPLE].list.len().to_numpy().astype(np.int64)
    return lists[_RESAMPLE].explode().to_numpy().astype(np.int64), np.cumsum(sizes) - sizes, sizes


def _resampler(frame: pl.DataFrame, groups: list[str], seed: int, *, turned: bool = False) -> Callable[[], Indices]:
    """A function that draws one resample: row indices, int64[rows drawn].

    With `turned`, one in n + 1 of the rows or groups is drawn as its copy, which is `frame.height` rows behind it.
    """
    import numpy as np

    generator = np.random.default_rng(seed)

    def shifts_to_copies(units: int) -> Indices:
        copies: Indices = frame.height * (generator.random(units) < 1 / (units + 1))
        return copies

    if not groups:
        if turned:
            rows = frame.height
            return lambda: generator.integers(0, rows, rows) + shifts_to_copies(rows)
        return lambda: generator.integers(0, frame.height, frame.height)
    order, starts, sizes = _rows_by_group(frame, groups)

    def draw() -> Indices:
        chosen = generator.integers(0, len(starts), len(starts))
        lengths = sizes[chosen]
        # One arange, shifted group by group, counts up from the start of each drawn group.
        shifts = np.repeat(starts[chosen] - (np.cumsum(lengths) - lengths), lengths)
        drawn: Indices = order[np.arange(lengths.sum()) + shifts]
        return drawn + np.repeat(shifts_to_copies(len(starts)), lengths) if turned else drawn

    return draw


def _jackknife_rows(frame: pl.DataFrame, groups: list[str]) -> Iterator[Indices]:
    """Row indices without one block, for each block: at most 200 blocks of whole groups."""
    import numpy as np

    if not groups:
        block = np.arange(frame.height) % min(frame.height, _JACKKNIFE_BLOCKS)
    else:
        order, starts, sizes = _rows_by_group(frame, groups)
        block_of_group = np.arange(len(starts)) % min(len(starts), _JACKKNIFE_BLOCKS)
        block = np.empty(frame.height, dtype=np.int64)
        block[order] = np.repeat(block_of_group, sizes)
    if block.max() == 0:
        return
    for left_out in range(block.max() + 1):
        yield np.flatnonzero(block != left_out)


def _evaluate(
    frame: pl.DataFrame, exprs: list[pl.Expr], resamples: Iterable[Indices], *, rows_at_once: int = _ROWS_AT_ONCE
) -> pl.DataFrame:
    """One row per resample with the value of each metric, evaluated on about `rows_at_once` rows at a time."""
    import numpy as np

    names = sorted({name for expr in exprs for name in expr.meta.root_names()})
    narrow = frame.select(names) if names else frame
    done: list[pl.DataFrame] = []
    waiting: list[Indices] = []
    rows = 0

    def evaluate_waiting() -> pl.DataFrame:
        number = np.repeat(np.arange(len(waiting)), [len(indices) for indices in waiting])
        together = narrow[np.concatenate(waiting)].with_columns(pl.Series(_RESAMPLE, number))
        return together.group_by(_RESAMPLE, maintain_order=True).agg(exprs).drop(_RESAMPLE)

    for indices in resamples:
        waiting.append(indices)
        rows += len(indices)
        if rows >= rows_at_once:
            done.append(evaluate_waiting())
            waiting.clear()
            rows = 0
    if waiting:
        done.append(evaluate_waiting())
    return pl.concat(done) if done else frame.clear().select(exprs).clear()


def _metric_value(value: object) -> float | None:
    """The value of a metric, None where it is null or NaN."""
    if value is None:
        return None
    number = float(value)  # type: ignore[arg-type]  # a metric is a number, or float() says what it is
    return None if math.isnan(number) else number


def _defined_values(values: pl.Series) -> pl.Series:
    return values.cast(pl.Float64).fill_nan(None).drop_nulls()


def _interval(values: pl.Series, level: float, bca: _Bca | None) -> tuple[float | None, float | None]:
    """The two quantiles with `level` of the values between them, corrected by `bca`."""
    tails = ((1 - level) / 2, (1 + level) / 2) if bca is None else _bca_tails(values, level, bca)
    low, high = (values.quantile(tail, interpolation="linear") for tail in tails)
    return low, high


def _deviate(level: float, units: int) -> float:
    """How many standard deviations out the ends are.

    Resamples of n values vary less than the values do, and n is small: further out, as Student's t is.
    """
    upper = (1 + level) / 2
    if units < 2:  # noqa: PLR2004  one value says nothing of how values vary
        return _NORMAL.inv_cdf(upper)
    return math.sqrt(units / (units - 1)) * t_quantile(upper, units - 1)


def _bca_tails(values: pl.Series, level: float, bca: _Bca) -> tuple[float, float]:
    """The tail probabilities that BCa uses, without bias and skew where nothing varies."""
    deviate = _deviate(level, bca.units)
    # Ties count half, or a metric with few distinct values would look biased.
    below = (int((values < bca.estimate).sum()) + 0.5 * int((values == bca.estimate).sum())) / values.len()
    bias, skew = 0.0, 0.0
    if 0 < below < 1 and bca.jackknife.len():
        bias = _NORMAL.inv_cdf(below)
        jackknife = bca.jackknife.to_numpy()  # float64[blocks]
        influence = jackknife.mean() - jackknife
        squares = float((influence**2).sum())
        skew = float((influence**3).sum()) / (6 * squares**1.5) if squares > 0 else 0.0

    def corrected(shifted: float) -> float:
        scale = 1 - skew * shifted
        if scale <= 0:  # beyond the pole of the correction lies the end of the distribution
            return 1.0 if shifted > 0 else 0.0
        return _NORMAL.cdf(bias + shifted / scale)

    return corrected(bias - deviate), corrected(bias + deviate)
