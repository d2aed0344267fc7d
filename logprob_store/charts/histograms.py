"""Histograms: of one score, and of one score in two runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from logprob_store.charts.frame import HEIGHT, WIDTH, hints, left_out, range_words, score_axis, title
from logprob_store.charts.palette import ACCENT, SECOND
from logprob_store.charts.value_counts import GROUP
from logprob_store.charts.words import short_text
from logprob_store.counted import counted
from logprob_store.extras import import_extra

if TYPE_CHECKING:
    import altair as alt

    from logprob_store.charts.distributions import Distribution


def histogram(spread: Distribution, *, noun: str = "answer") -> alt.Chart:
    """How many answers have which values of a score: one bar per bin.

    Args:
        spread: from `distribution`; all its groups are taken together.
        noun: what is counted.

    Returns:
        A chart with the number of rows above it and, below that, how many have no value.

    >>> from logprob_store.charts.distributions import distribution
    >>> from logprob_store.charts.value_counts import value_counts
    >>> counts = value_counts(pl.LazyFrame({"n": [1, 1, 2, None]}), ["n"])
    >>> spec = histogram(distribution(counts, "n")).to_dict()
    >>> spec["title"]["text"], spec["title"]["subtitle"]
    ('4 answers', ['1 without n'])
    """
    alt = import_extra("altair")
    bins = spread.bins.group_by("lower", "upper").agg(pl.col("count").sum()).sort("lower")
    said = [
        f"{range_words(lower, upper, whole=spread.whole)}: {counted(count, noun, commas=True)}"
        for lower, upper, count in bins.rows()
    ]
    return (  # type: ignore[no-any-return]
        alt.Chart(bins.with_columns(said=pl.Series(said, dtype=pl.String)))
        .mark_bar(color=ACCENT, binSpacing=1, orient="vertical")
        .encode(
            x=score_axis(spread),
            x2="upper",
            y=_count_axis("count", f"{noun}s", "~s", is_empty=not bins.height),
            **hints(),
        )
        .properties(
            width=WIDTH,
            height=HEIGHT,
            title=title(counted(int(spread.groups["rows"].sum()), noun, commas=True), left_out(spread)),
        )
    )


def compared_histograms(spread: Distribution, run_a: str, run_b: str, *, noun: str = "answer") -> alt.LayerChart:
    """The shares of answers with which values of a score, in two runs: bars for the first, a line for the second.

    Args:
        spread: from `distribution`, with the two runs as groups.
        run_a: the name of the first.
        run_b: the name of the second.
        noun: what is counted.

    >>> from logprob_store.charts.distributions import distribution
    >>> from logprob_store.charts.value_counts import value_counts
    >>> counts = value_counts(pl.LazyFrame({"run": ["a", "b", "b"], "n": [1, 1, 2]}), ["n"], by="run")
    >>> compared_histograms(distribution(counts, "n"), "a", "b").to_dict()["title"]["text"]
    ['bars: a, 1 answer', 'line: b, 2 answers']
    """
    alt = import_extra("altair")
    rows = dict(spread.groups.select(GROUP, "rows").iter_rows())
    names = [
        f"{mark}: {short_text(run)}, {counted(rows.get(run, 0), noun, commas=True)}"
        for mark, run in (("bars", run_a), ("line", run_b))
    ]
    shares = _shares(spread, run_a, run_b, noun)
    y = _count_axis("share_a", f"share of {noun}s", "~%", is_empty=not shares.height)
    bars = (
        alt.Chart(shares)
        .mark_bar(color=ACCENT, opacity=0.55, binSpacing=1, orient="vertical")
        .encode(x=score_axis(spread), x2="upper", y=y, **hints())
    )
    line = (
        alt.Chart(_outline(shares))
        .mark_line(color=SECOND, interpolate="step-after", strokeWidth=2, aria=False)
        .encode(x=score_axis(spread), y=alt.Y("share_b:Q"))
    )
    return alt.layer(bars, line).properties(  # type: ignore[no-any-return]
        width=WIDTH, height=HEIGHT, title=title(names, left_out(spread))
    )


def _count_axis(column: str, name: str, form: str, *, is_empty: bool) -> alt.Y:
    alt = import_extra("altair")
    scale = alt.Scale(domain=[0, 1]) if is_empty else alt.Scale(zero=True)
    least = {"tickMinStep": 1} if column == "count" else {}
    return alt.Y(  # type: ignore[no-any-return]
        f"{column}:Q", title=name, scale=scale, axis=alt.Axis(tickCount=4, format=form, **least)
    )


def _shares(spread: Distribution, run_a: str, run_b: str, noun: str) -> pl.DataFrame:
    """One row per bin that one of the runs has: `lower`, `upper`, `share_a`, `share_b`, `said`."""
    shown = dict(spread.groups.select(GROUP, pl.col("rows") - pl.col("missing") - pl.col("unshown")).iter_rows())
    counts = (
        spread.bins.group_by("lower", "upper")
        .agg(
            count_a=pl.col("count").filter(pl.col(GROUP) == run_a).sum(),
            count_b=pl.col("count").filter(pl.col(GROUP) == run_b).sum(),
        )
        .sort("lower")
    )
    said = [
        f"{range_words(lower, upper, whole=spread.whole)}: {counted(a, noun, commas=True)} of {short_text(run_a)}, "
        f"{b:,} of {short_text(run_b)}"
        for lower, upper, a, b in counts.rows()
    ]
    return counts.select(
        *("lower", "upper"),
        share_a=pl.col("count_a") / max(shown.get(run_a, 0), 1),
        share_b=pl.col("count_b") / max(shown.get(run_b, 0), 1),
        said=pl.Series(said, dtype=pl.String),
    )


def _outline(shares: pl.DataFrame) -> pl.DataFrame:
    """The points of a line with steps, which falls to 0 where a bin is empty, and behind the last one."""
    lowers = shares["lower"].to_list()
    gaps = [upper for upper in shares["upper"].to_list() if upper not in set(lowers)]
    points = [*shares.select("lower", "share_b").rows(), *((edge, 0.0) for edge in gaps)]
    points += [(lowers[0], 0.0)] if lowers else []
    return pl.DataFrame(sorted(points), schema={"lower": pl.Float64, "share_b": pl.Float64}, orient="row")
