"""Charts of confidence against the truth: is it honest, and what does a threshold let through?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.charts.frame import WIDTH, hints, title
from logprob_store.charts.palette import ACCENT, QUIET
from logprob_store.counted import counted
from logprob_store.extras import import_extra

if TYPE_CHECKING:
    import altair as alt

_TALL: Final = 220
_MOST_POINTS: Final = 500
_WHOLE: Final = [0.0, 1.0]


def reliability_diagram(table: pl.DataFrame, *, confidence: str = "confidence") -> alt.LayerChart:
    """How often answers of a confidence are right: a point per bin, its 95 % interval as a bar, and the diagonal.

    An honest confidence lies on the diagonal; below it, the model is too sure. The larger a point, the more answers.

    Args:
        table: from `reliability_table`, of one group.
        confidence: the name of the confidence.

    >>> from logprob_store.metrics.truth.calibration import reliability_table
    >>> rows = pl.DataFrame({"confidence": [0.9, 0.9, 0.2, None], "correct": [True, False, False, True]})
    >>> chart = reliability_diagram(reliability_table(rows).collect())
    >>> chart.to_dict()["title"]["text"], chart.to_dict()["title"]["subtitle"]
    ('3 answers judged', ['1 without a confidence or a truth'])
    """
    alt = import_extra("altair")
    points = table.filter(pl.col("count") > 0).select(
        *("mean_confidence", "accuracy", "accuracy_low", "accuracy_high", "count")
    )
    said = [
        f"confidence {mean:.3f}, {share:.0%} of {counted(count, 'answer', commas=True)} right ({low:.0%} to {high:.0%})"
        for mean, share, low, high, count in points.rows()
    ]
    points = points.with_columns(said=pl.Series(said, dtype=pl.String))
    x = alt.X(
        "mean_confidence:Q", title=confidence, scale=alt.Scale(domain=_WHOLE), axis=alt.Axis(tickCount=5, format="~g")
    )
    share_axis = alt.Axis(tickCount=5, format="~%")
    y = alt.Y("accuracy:Q", title="right answers", scale=alt.Scale(domain=_WHOLE), axis=share_axis)
    ends = pl.DataFrame({"mean_confidence": _WHOLE, "accuracy": _WHOLE})
    diagonal = alt.Chart(ends).mark_line(color=QUIET, strokeDash=[4, 4], aria=False).encode(x=x, y=y)
    base = alt.Chart(points)
    intervals = base.mark_rule(color=ACCENT, strokeWidth=2, opacity=0.6, aria=False).encode(
        x=x, y=alt.Y("accuracy_low:Q"), y2="accuracy_high"
    )
    size = alt.Size("count:Q", legend=None, scale=alt.Scale(range=[30, 260], domainMin=0))
    dots = base.mark_point(color=ACCENT, filled=True, opacity=1).encode(x=x, y=y, size=size, **hints())
    unjudged = int(table["unjudged"][0]) if table.height else 0
    more = [f"{unjudged:,} without a confidence or a truth"] if unjudged else []
    judged = counted(int(table["count"].sum()), "answer", commas=True)
    return alt.layer(diagonal, intervals, dots).properties(  # type: ignore[no-any-return]
        width=_TALL, height=_TALL, title=title(f"{judged} judged", more)
    )


def risk_coverage(curve: pl.DataFrame) -> alt.LayerChart:
    """Which share of answers is wrong among the surest: the risk of accepting from a threshold on, and the coverage.

    Args:
        curve: from `risk_coverage_curve`, of one group. Of more than 500 points, 500 are drawn, at equal coverage.

    >>> from logprob_store.metrics.truth.selective import risk_coverage_curve
    >>> rows = pl.DataFrame({"confidence": [0.9, 0.6, 0.6, None], "correct": [True, False, True, True]})
    >>> risk_coverage(risk_coverage_curve(rows).collect()).to_dict()["title"]["text"]
    '3 answers judged, 33.3% wrong'
    """
    alt = import_extra("altair")
    drawn = _thinned(curve)
    said = [
        f"from {threshold:.4g} on: {share:.1%} accepted, {risk:.1%} of them wrong"
        for threshold, share, risk in drawn.select("threshold", "coverage", "risk").rows()
    ]
    points = drawn.select("coverage", "risk", said=pl.Series(said, dtype=pl.String))
    x = alt.X(
        "coverage:Q",
        title="accepted, the surest first",
        scale=alt.Scale(domain=_WHOLE),
        axis=alt.Axis(tickCount=5, format="~%"),
    )
    scale = alt.Scale(zero=True) if drawn["risk"].sum() else alt.Scale(domain=_WHOLE)
    y = alt.Y("risk:Q", title="wrong among them", scale=scale, axis=alt.Axis(tickCount=5, format="~%"))
    base = alt.Chart(points)
    line = base.mark_line(color=ACCENT, strokeWidth=2, interpolate="step-before", aria=False).encode(x=x, y=y)
    dots = (
        alt.Chart(_some(points)).mark_point(color=ACCENT, filled=True, size=40, opacity=1).encode(x=x, y=y, **hints())
    )
    judged, wrong = curve.select(pl.col("accepted", "errors").max().fill_null(0)).row(0)
    overall = alt.Chart(pl.DataFrame({"risk": [wrong / judged if judged else 0.0]}))
    rule = overall.mark_rule(color=QUIET, strokeDash=[4, 4], aria=False).encode(y=y)
    text = f"{counted(judged, 'answer', commas=True)} judged" + (f", {wrong / judged:.1%} wrong" if judged else "")
    return alt.layer(rule, line, dots).properties(width=WIDTH, height=_TALL, title=title(text))  # type: ignore[no-any-return]


def _some(points: pl.DataFrame) -> pl.DataFrame:
    """The points that are marked, for their hints: that next to each tenth of the coverage."""
    near = [(points["coverage"] - tenth / 10).abs().arg_min() for tenth in range(1, 11)] if points.height else []
    return points[sorted({place for place in near if place is not None})]


def _thinned(curve: pl.DataFrame) -> pl.DataFrame:
    """The last point of each of 500 equal parts of the coverage."""
    if curve.height <= _MOST_POINTS:
        return curve
    part = (pl.col("coverage") * _MOST_POINTS).ceil()
    return curve.group_by(part.alias("part"), maintain_order=True).last().drop("part")
