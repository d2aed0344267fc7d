"""Two scores of the same answers: a point for each, or squares that many answers share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.charts.distributions import bin_of, distribution
from logprob_store.charts.frame import hints, range_words, score_axis, title
from logprob_store.charts.palette import ACCENT
from logprob_store.charts.value_counts import near_values
from logprob_store.charts.words import short_text
from logprob_store.counted import counted
from logprob_store.extras import import_extra

if TYPE_CHECKING:
    import altair as alt

    from logprob_store.charts.distributions import Distribution

MOST_POINTS: Final = 1000
_SIDE: Final = 260
_SQUARES: Final = 30
"""From one side to the other."""
_COARSE: Final = {"below_1": 200, "to_double": 64}
"""Steps in which values are counted for squares."""


def scatter(rows: pl.LazyFrame, x: str, y: str) -> alt.Chart:
    """Two scores against each other: a point per answer, or of more than 1,000 answers squares, the fuller the darker.

    Args:
        rows: such as `store.scores()`; with `prompt_id` its points say whose they are.
        x: the score to the right.
        y: the score upwards.

    >>> rows = pl.LazyFrame({"confidence": [0.5, 0.9], "perplexity": [2.0, None]})
    >>> chart = scatter(rows, "confidence", "perplexity")
    >>> chart.to_dict()["title"]["text"], chart.to_dict()["title"]["subtitle"]
    ('2 answers', ['1 without both scores'])
    """
    alt = import_extra("altair")
    first = _two_scores(rows.head(MOST_POINTS + 1), x, y).collect(engine="streaming")
    cells = _cells(first.lazy() if first.height <= MOST_POINTS else _two_scores(rows, x, y))
    across, up = _spread(cells, "x", x), _spread(cells, "y", y)
    axes = {"x": score_axis(across, "x"), "y": _upward(up)}
    total = int(cells["rows"].sum())
    if first.height > MOST_POINTS:
        squares = _squares(cells, across, up)
        shade = alt.Opacity("count:Q", legend=None, scale=alt.Scale(type="log", domainMin=0.5, range=[0.1, 1]))
        marks = (
            alt.Chart(squares)
            .mark_rect(color=ACCENT, aria=True)
            .encode(**axes, x2="x2", y2="y2", opacity=shade, **hints())
        )
        drawn = int(squares["count"].sum())
    else:
        is_drawn = pl.all_horizontal(
            pl.col(name).is_finite() & ((pl.col(name) > 0) if spread.scale == "log" else pl.lit(value=True))
            for name, spread in (("x", across), ("y", up))
        )
        points = first.filter(is_drawn.fill_null(value=False)).sort("x", "y", "prompt_id")  # rows come in any order
        points = points.with_columns(said=pl.Series(_words_of_points(points, x, y), dtype=pl.String)).drop("prompt_id")
        marks = (
            alt.Chart(points).mark_square(color=ACCENT, size=24, fillOpacity=0.6, opacity=1).encode(**axes, **hints())
        )
        drawn = points.height
    left = total - drawn
    more = [f"{left:,} without both scores"] if left else []
    text = counted(total, "answer", commas=True)
    return marks.properties(width=_SIDE, height=_SIDE, title=title(text, more))  # type: ignore[no-any-return]


def _two_scores(rows: pl.LazyFrame, x: str, y: str) -> pl.LazyFrame:
    known = "prompt_id" in rows.collect_schema()
    return rows.select(
        x=pl.col(x).cast(pl.Float64),
        y=pl.col(y).cast(pl.Float64),
        prompt_id=pl.col("prompt_id").cast(pl.String) if known else pl.lit(None, pl.String),
    )


def _cells(rows: pl.LazyFrame) -> pl.DataFrame:
    """How many rows have nearly these two values, in one pass: `rows`, and the ends of both; null where one is none."""
    keys = []
    for name in ("x", "y"):
        value, is_zero = pl.col(name), pl.col(name) == 0
        steps = pl.when(value.is_finite(), ~is_zero).then(near_values(value, **_COARSE))
        keys += [steps.alias(f"{name}_steps"), value.sign().alias(f"{name}_sign"), is_zero.alias(f"{name}_zero")]
    ends = {f"{name}_{end}": getattr(pl.col(name), end)() for name in ("x", "y") for end in ("min", "max")}
    return rows.group_by(keys).agg(rows=pl.len().cast(pl.Int64), **ends).collect(engine="streaming")


def _spread(cells: pl.DataFrame, name: str, score: str) -> Distribution:
    counts = cells.select(
        score=pl.lit(score),
        group=pl.lit(None, pl.String),
        rows="rows",
        lowest=pl.col(f"{name}_min"),
        highest=pl.col(f"{name}_max"),
    )
    return distribution(counts, score, most_bins=_SQUARES)


def _squares(cells: pl.DataFrame, across: Distribution, up: Distribution) -> pl.DataFrame:
    """One row per square that has rows: its ends, `count`, and `said`."""
    inside = cells.filter(
        pl.all_horizontal(
            pl.col(f"{name}_min").is_finite() & pl.col(f"{name}_min").ge(0 if spread.scale == "log" else -math.inf)
            for name, spread in (("x", across), ("y", up))
        )
    )
    ends: dict[str, pl.Series] = {}
    for name, spread in (("x", across), ("y", up)):
        middle = inside[f"{name}_min"] + (inside[f"{name}_max"] - inside[f"{name}_min"]) / 2
        place, edges = bin_of(middle, spread.edges), pl.Series(spread.edges, dtype=pl.Float64)
        ends |= {name: edges.gather(place), f"{name}2": edges.gather(place + 1)}
    squares = inside.select("rows", **ends).group_by(*ends).agg(count=pl.col("rows").sum()).sort(*ends)
    said = [
        f"{short_text(across.score)} {range_words(x, x2, whole=across.whole)}, "
        f"{short_text(up.score)} {range_words(y, y2, whole=up.whole)}: {counted(count, 'answer', commas=True)}"
        for x, x2, y, y2, count in squares.rows()
    ]
    return squares.with_columns(said=pl.Series(said, dtype=pl.String))


def _words_of_points(points: pl.DataFrame, x: str, y: str) -> list[str]:
    return [
        ("" if prompt_id is None else f"{short_text(prompt_id)}: ")
        + f"{short_text(x)} {value_x:.4g}, {short_text(y)} {value_y:.4g}"
        for value_x, value_y, prompt_id in points.select("x", "y", "prompt_id").rows()
    ]


def _upward(spread: Distribution) -> alt.Y:
    alt = import_extra("altair")
    scale = alt.Scale(type=spread.scale, domain=list(spread.domain), nice=False, zero=False)
    axis = alt.Axis(format="~g", tickCount=5, labelOverlap="greedy")
    return alt.Y("y:Q", title=short_text(spread.score), scale=scale, axis=axis)  # type: ignore[no-any-return]
