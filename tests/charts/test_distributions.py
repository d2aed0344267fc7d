"""Bins and quartiles from counted values."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logprob_store.charts.distributions import Distribution, distribution
from logprob_store.charts.value_counts import value_counts

NUMBERS = st.one_of(st.none(), st.floats(), st.floats(0, 1), st.integers(0, 300).map(float))


def spread_of(values: list[float | None], score: str = "n", **settings: object) -> Distribution:
    """The distribution of some values."""
    rows = pl.LazyFrame({score: values}, schema={score: pl.Float64})
    return distribution(value_counts(rows, [score]), score, **settings)  # type: ignore[arg-type]


@given(st.lists(NUMBERS, max_size=40), st.sampled_from(["linear", "log"]))
def test_the_bins_hold_what_can_be_shown(values: list[float | None], scale: str) -> None:
    """Each value is in a bin, or counted as missing or as not shown; the axis is finite, and bins are few."""
    spread = spread_of(values, scale=scale)
    left_out = spread.groups.select(pl.col("missing", "unshown").sum()).sum_horizontal().sum()
    low, high = spread.domain

    assert spread.bins["count"].sum() + left_out == len(values)
    assert math.isfinite(high - low)
    assert low < high
    assert len(spread.edges) <= 44
    assert spread.edges == sorted(set(spread.edges))


def test_the_bins_of_a_probability_are_fortieths() -> None:
    """[k / 40, (k + 1) / 40), exactly, and 1.0 is in the last one."""
    edges = [place / 40 for place in range(41)]
    spread = spread_of(edges, "confidence")

    assert spread.edges == edges
    assert spread.bins["lower"].to_list() == edges[:-1]
    assert spread.bins["count"].to_list() == [1] * 39 + [2]


def test_probabilities_that_are_none_are_shown_all_the_same() -> None:
    """A margin below 0 or a confidence above 1 would be outside of [0, 1]."""
    assert spread_of([0.5, 1.5], "confidence").bins["count"].sum() == 2


def test_few_whole_numbers_have_a_bin_each() -> None:
    """From half below to half above, so that the number is in the middle of its bar."""
    spread = spread_of([1, 2, 2, 4], "token_count")

    assert spread.whole
    assert spread.bins.select("lower", "upper", "count").rows() == [(0.5, 1.5, 1), (1.5, 2.5, 2), (3.5, 4.5, 1)]


def test_perplexity_has_equal_parts_of_a_decade() -> None:
    """From 1 to 100 in twentieths would be 40 bins and one more, so in tenths: 21 edges and one bin behind 100."""
    edges = spread_of([1, 100], "perplexity").edges

    assert [round(edge, 4) for edge in edges[:3]] == [1.0, 1.2589, 1.5849]
    assert len(edges) == 22


def test_equal_values_have_one_bin() -> None:
    """An axis around them, as there is no width to divide."""
    assert spread_of([7.25] * 5).bins["count"].to_list() == [5]
    assert spread_of([1.0] * 5, "perplexity").domain == (1.0, pytest.approx(10**0.1))


def test_zero_is_not_on_a_log_axis() -> None:
    """It is counted as not shown."""
    spread = spread_of([0.0, 10.0], scale="log")

    assert spread.groups["unshown"].to_list() == [1]


def test_quartiles_are_values_that_occur() -> None:
    """Of 1 to 4, at least a quarter of the rows is at most 1, half at most 2, three quarters at most 3."""
    spread = spread_of([1, 2, 3, 4])

    assert spread.groups.select("first_quartile", "median", "third_quartile").row(0) == (1, 2, 3)


def test_quartiles_are_of_a_group() -> None:
    """Each run has its own, and one without a value has none."""
    rows = pl.LazyFrame({"run": ["a", "a", "b", "c"], "n": [1.0, 1.0, 5.0, None]})
    groups = distribution(value_counts(rows, ["n"], by="run"), "n").groups

    assert groups.select("group", "median").rows() == [("a", 1.0), ("b", 5.0), ("c", None)]
