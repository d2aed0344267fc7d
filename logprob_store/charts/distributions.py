"""The bins of a histogram, and the quartiles of groups: from the counted values of a score, without its rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import polars as pl

from logprob_store.charts.value_counts import GROUP

Scale: TypeAlias = Literal["linear", "log"]

MOST_BINS: Final = 40
"""A bin is then at least 7 pixels wide on a phone. Also the bins from 0 to 1, whose edges then are exact."""

PROBABILITIES: Final = frozenset(
    {
        *("confidence", "joint_probability", "min_probability", "low_confidence_share", "sliding_confidence"),
        *("tail_confidence", "mean_margin", "mean_missing_mass", "greedy_share", "label_probability", "coverage"),
    }
)
"""Scores of [0, 1], whose charts show all of it, so that two nights look alike where they are."""

_LOG_SCORES: Final = frozenset({"perplexity"})
_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_LEAST_STEP: Final = 1e-12
_LEAST_ON_LOG: Final = 1e-300
_PER_DECADE: Final = (100, 50, 20, 10, 5, 2, 1)
_QUARTILES: Final = {"first_quartile": 0.25, "median": 0.5, "third_quartile": 0.75}


@dataclass(frozen=True, slots=True)
class Distribution:
    """How the values of a score are spread.

    Attributes:
        score: its name.
        scale: of its axis.
        bins: one row per group and bin that is not empty: `group`, `lower`, `upper`, `count`. A bin is [lower, upper);
            the last one is closed.
        groups: one row per group: `group`, `rows`, `missing` (null), `unshown` (not finite or, on a log axis, not above
            0), `lowest`, `first_quartile`, `median`, `third_quartile`, `highest`.
        edges: those of all bins, also of the empty ones.
        whole: whether each bin is one whole number, from half below it to half above it.
    """

    score: str
    scale: Scale
    bins: pl.DataFrame
    groups: pl.DataFrame
    edges: list[float]
    whole: bool

    @property
    def domain(self) -> tuple[float, float]:
        """The ends of the axis."""
        return self.edges[0], self.edges[-1]


def distribution(
    counts: pl.DataFrame, score: str, *, scale: Scale | None = None, most_bins: int = MOST_BINS
) -> Distribution:
    """The bins and the quartiles of a score.

    Args:
        counts: from `value_counts`.
        score: one of its scores.
        scale: of the axis and its bins; when None, log for perplexity, and linear for all others.
        most_bins: at most so many bins.

    >>> from logprob_store.charts.value_counts import value_counts
    >>> counts = value_counts(pl.LazyFrame({"n": [1, 1, 2, None]}), ["n"])
    >>> spread = distribution(counts, "n")
    >>> spread.bins.select("lower", "upper", "count").rows(), spread.groups.select("rows", "missing", "median").rows()
    ([(0.5, 1.5, 2), (1.5, 2.5, 1)], [(4, 1, 1.0)])
    """
    of_score = counts.filter(pl.col("score") == score)
    kind = scale or scale_of(score)
    value = pl.col("lowest") + (pl.col("highest") - pl.col("lowest")) / 2
    is_shown = pl.col("lowest").is_finite() & (
        (pl.col("lowest") > _LEAST_ON_LOG) if kind == "log" else pl.lit(value=True)
    )
    shown = of_score.filter(is_shown).with_columns(value=value).sort("value")
    edges, whole = _edges(shown, score, kind, most_bins)
    limits = pl.Series(edges, dtype=pl.Float64)
    counted = (
        shown.group_by(GROUP, place=bin_of(shown["value"], edges)).agg(count=pl.col("rows").sum()).sort(GROUP, "place")
    )
    lower, upper = limits.gather(counted["place"]), limits.gather(counted["place"] + 1)
    bins = counted.select(GROUP, lower=lower, upper=upper, count="count")
    return Distribution(score, kind, bins, _groups(of_score, shown), edges, whole)


def bin_of(values: pl.Series, edges: list[float]) -> pl.Series:
    """The number of the bin that each value falls in, from 0; the last bin is closed.

    >>> bin_of(pl.Series([0.0, 0.5, 1.0]), [0.0, 0.5, 1.0]).to_list()
    [0, 1, 1]
    """
    places = pl.Series(edges, dtype=pl.Float64).search_sorted(values, side="right")
    return (places.cast(pl.Int64) - 1).clip(0, len(edges) - 2)


def scale_of(score: str) -> Scale:
    """The scale of a score's axis, where none is asked for."""
    return "log" if score in _LOG_SCORES else "linear"


def _groups(of_score: pl.DataFrame, shown: pl.DataFrame) -> pl.DataFrame:
    """The rows and quartiles of each group, in the order of their names."""
    rows = of_score.group_by(GROUP).agg(
        rows=pl.col("rows").sum(), missing=pl.col("rows").filter(pl.col("lowest").is_null()).sum()
    )
    reached = pl.col("rows").cum_sum() / pl.col("rows").sum()
    quartiles = {name: pl.col("value").filter(reached >= share).first() for name, share in _QUARTILES.items()}
    spread = shown.group_by(GROUP, maintain_order=True).agg(
        shown=pl.col("rows").sum(), lowest=pl.col("lowest").min(), **quartiles, highest=pl.col("highest").max()
    )
    joined = rows.join(spread, on=GROUP, how="left", nulls_equal=True).sort(GROUP)
    unshown = pl.col("rows") - pl.col("missing") - pl.col("shown").fill_null(0)
    return joined.select(GROUP, "rows", "missing", unshown.alias("unshown"), "lowest", *_QUARTILES, "highest")


def _edges(shown: pl.DataFrame, score: str, scale: Scale, most: int) -> tuple[list[float], bool]:
    """The edges of the bins, and whether each bin is one whole number."""
    if not shown.height:
        return ([1.0, 10.0] if scale == "log" else [0.0, 1.0]), False
    lowest, highest = float(shown["lowest"].min()), float(shown["highest"].max())  # type: ignore[arg-type]
    if scale == "log":
        return _log_edges(lowest, highest, most), False
    if score in PROBABILITIES and lowest >= 0 and highest <= 1:
        return [place / most for place in range(most + 1)], False
    is_whole = shown.select(((pl.col("lowest") == pl.col("highest")) & (pl.col("lowest") % 1 == 0)).all()).item()
    width = max((highest - lowest) / most, 1.0 if is_whole else _LEAST_STEP)
    size = max(abs(lowest), abs(highest))
    step = _rounded_up(width if width > size * 1e-9 else size / 10)
    first, last = math.floor(lowest / step), math.floor(highest / step) + 1
    if is_whole and step == 1:
        return [place - 0.5 for place in range(first, last + 1)], True
    if step >= 1:
        return [place * step for place in range(first, last + 1)], False
    return [place / round(1 / step) for place in range(first, last + 1)], False


def _rounded_up(width: float) -> float:
    """The next round width of bins."""
    power = 10.0 ** math.floor(math.log10(width))
    return next(step * power for step in _STEPS if step * power >= width * (1 - 1e-12))


def _log_edges(lowest: float, highest: float, most: int) -> list[float]:
    """Edges at equal parts of a decade; over more than 40 decades, which only a broken server sends, at whole ones."""
    decades = math.log10(highest) - math.log10(lowest)
    per_decade = next((parts for parts in _PER_DECADE if decades * parts <= most - 2), 0) if decades else 10
    if not per_decade:
        width = math.ceil(decades / (most - 2))
        first, last = math.floor(math.log10(lowest) / width), math.floor(math.log10(highest) / width) + 1
        return [10.0 ** (place * width) for place in range(first, last + 1)]
    first = math.floor(math.log10(lowest) * per_decade + 1e-9)
    last = math.floor(math.log10(highest) * per_decade + 1e-9) + 1
    return [10.0 ** (place / per_decade) for place in range(first, last + 1)]
