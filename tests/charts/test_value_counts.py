"""Values counted in one pass: nothing is lost, nothing far apart is taken together, and groups stay apart."""

from __future__ import annotations

import math

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from logprob_store.charts.value_counts import value_counts

NUMBERS = st.one_of(st.none(), st.floats(), st.floats(0, 1), st.integers(-5000, 5000).map(float))


def counted(values: list[float | None], name: str = "n") -> pl.DataFrame:
    """The counts of some values."""
    return value_counts(pl.LazyFrame({name: values}, schema={name: pl.Float64}), [name])


@given(st.lists(NUMBERS, max_size=50))
def test_every_row_is_counted_once(values: list[float | None]) -> None:
    """Nulls, NaN and infinities too, each apart from the numbers."""
    counts = counted(values)
    missing = counts.filter(pl.col("lowest").is_null())["rows"].sum()
    unshown = counts.filter(pl.col("lowest").is_nan())["rows"].sum()

    assert counts["rows"].sum() == len(values)
    assert missing == values.count(None)
    assert unshown == sum(1 for value in values if value is not None and not abs(value) < 1e300)


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=50))
def test_only_near_values_are_counted_together(values: list[float]) -> None:
    """To 1/4000 between 1/64 and 1, and to one part in 2048 elsewhere."""
    for lowest, highest in counted(values).select("lowest", "highest").rows():
        assert highest - lowest <= max(1 / 4000, 1 / 2048 * max(abs(lowest), abs(highest)))


def test_two_scales_share_no_count() -> None:
    """0.5 is step 2000 of 4000, and 1.968 is step 2000 to the double: they are different values."""
    counts = counted([0.5, 2 ** (2000 / 2048)])

    assert sorted(counts["rows"]) == [1, 1]


def test_whole_numbers_stay_apart() -> None:
    """Up to two thousand tokens, each length has its own count."""
    assert counted([float(number) for number in range(2000)]).height == 2000


def test_groups_are_counted_apart() -> None:
    """By a column, such as the run."""
    counts = value_counts(pl.LazyFrame({"run": ["a", "b", "b"], "n": [1.0, 1.0, 1.0]}), ["n"], by="run")

    assert sorted(counts.select("group", "rows").rows()) == [("a", 1), ("b", 2)]


def test_scores_may_have_any_name() -> None:
    """Also those of the table of counts."""
    names = ["group", "score", "rows", "x", "a.b[0]"]
    counts = value_counts(pl.LazyFrame({name: [1.0, math.pi] for name in names}), names)

    assert sorted(counts["score"].unique()) == sorted(names)
    assert counts["rows"].sum() == 10
