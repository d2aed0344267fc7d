"""Margin, missing mass and token confidence: by hand, against a slow reference, ties, nulls, and order."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import logprob_store as ls

TOKEN = ["run", "completion_id", "section", "position"]
EVERY = {
    "entropy": ls.entropy(),
    "entropy_lower": ls.entropy_lower(),
    "entropy_upper": ls.entropy_upper(vocabulary_size=100),
    "logprob_margin": ls.logprob_margin(),
    "margin": ls.margin(),
    "missing_mass": ls.missing_mass(),
    "negentropy": ls.negentropy(),
    "token_confidence": ls.token_confidence(),
    "varentropy": ls.varentropy(),
}

several = st.lists(st.floats(-40, 0), min_size=2, max_size=21)


def alternatives(values: list[float | None]) -> pl.DataFrame:
    """One token's alternatives, ranked as given."""
    frame = pl.DataFrame({"logprob": values}, schema={"logprob": pl.Float64})
    return frame.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int16))


def ln(*probabilities: float) -> list[float | None]:
    """Logprobs of probabilities."""
    return [math.log(p) for p in probabilities]


def test_numbers_by_hand() -> None:
    """Of p = (1/8, 1/2, 1/4) the lead is 1/4 or ln 2, 1/8 is missing, and 3, 1 and 2 bits have mean 2."""
    actual = alternatives(ln(0.125, 0.5, 0.25)).select(
        ls.margin(), ls.logprob_margin(), ls.missing_mass(), ls.token_confidence()
    )

    assert actual.row(0) == pytest.approx((0.25, math.log(2), 0.125, 2 * math.log(2)))


@given(several)
def test_against_sorting_a_list(values: list[float]) -> None:
    """Both ways to the second largest agree with sorting, for any order and any ties."""
    first, second = sorted(values, reverse=True)[:2]
    frame = alternatives(list(values))
    actual = frame.select(
        ls.margin(), ls.logprob_margin(), by_rank=ls.margin(rank="rank"), logs=ls.logprob_margin(rank="rank")
    ).row(0)
    lead = math.exp(first) - math.exp(second)

    assert actual == pytest.approx((lead, first - second, lead, first - second), rel=1e-12, abs=1e-12)


@given(several)
def test_missing_mass_against_adding_a_list(values: list[float]) -> None:
    """The missing mass is 1 minus the sum, and never negative."""
    expected = max(0.0, 1.0 - math.fsum(math.exp(x) for x in values))

    assert alternatives(list(values)).select(ls.missing_mass()).item() == pytest.approx(expected, abs=1e-12)


@given(several, st.randoms(use_true_random=False))
def test_order_delivered_changes_nothing(values: list[float], random: object) -> None:
    """Alternatives in another order, ranks and all, have the same metrics."""
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = (alternatives(list(v)).select(**EVERY).row(0) for v in (values, shuffled))

    # the bounds are as steep as ln p_k where m is only rounding
    assert first == pytest.approx(second, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("values", [[], [None], [-0.1], [0.0, None], [None, None]], ids=str)
@pytest.mark.parametrize("name", EVERY)
def test_fewer_than_two_alternatives_give_null(name: str, values: list[float | None]) -> None:
    """One alternative says nothing about a choice."""
    assert alternatives(values).select(EVERY[name]).item() is None


@pytest.mark.parametrize("name", EVERY)
def test_flagged_alternatives_are_left_out(name: str) -> None:
    """A null does not count as an alternative, and the others keep their metrics."""
    clean, flagged = alternatives(ln(0.5, 0.25)), alternatives([None, *ln(0.5), None, *ln(0.25)])

    assert flagged.select(EVERY[name]).item() == clean.select(EVERY[name]).item()


def test_second_by_rank_with_one_scored_alternative() -> None:
    """The fast path is null where the plain one is."""
    frame = alternatives([None, -0.5, None])

    assert frame.select(ls.margin(rank="rank"), ls.logprob_margin(rank="rank")).row(0) == (None, None)


@pytest.mark.parametrize("ranks", [[0, 1 << bit] for bit in range(15)])
def test_second_by_rank_for_every_rank_an_int16_holds(ranks: list[int]) -> None:
    """Two ranks that differ in one bit, any of 15, do not hide each other."""
    frame = pl.DataFrame({"logprob": [-1.0, -0.5], "rank": pl.Series(ranks, dtype=pl.Int16)})

    assert frame.select(ls.logprob_margin(rank="rank")).item() == 0.5


@pytest.mark.parametrize(
    "values",
    [
        [1e-12, -40.0],  # float noise above certainty
        [0.0, -1e-17, -30.0],  # S = 2: contradictory, and still a number
        [-0.69314718, -0.69314718],  # rounded halves: S = 1.00000000112
        [-800.0, -900.0],  # every p underflows to 0
        [0.0, -800.0],  # p_k = 0 and nothing missing
        [-0.5, -745.0],  # p_k is the smallest denormal
        [-0.5, -1e8],  # p_k = 0 and much missing
    ],
    ids=str,
)
@pytest.mark.parametrize("name", EVERY)
def test_rounding_and_underflow_give_numbers(name: str, values: list[float | None]) -> None:
    """Nothing is NaN, infinite or below 0."""
    value = alternatives(values).select(EVERY[name]).item()

    assert math.isfinite(value)
    # a logprob of 1e-12 is above 0, and its surprisal as far below
    assert value >= -1e-9


def test_streams_and_composes_with_a_filter() -> None:
    """Grouped by token behind a filter, both engines give the same."""
    positions = [0, 0, 1, 1, 1]
    rows = alternatives(ln(0.5, 0.25, 0.1, 0.2, 0.7)).with_columns(
        run=pl.lit("r"), completion_id=pl.lit(1), section=pl.lit("content"), position=pl.Series(positions)
    )
    query = rows.lazy().filter(ls.generated()).group_by(TOKEN).agg(**EVERY).sort("position")
    streamed = query.collect(engine="streaming")

    assert_frame_equal(streamed, query.collect(engine="in-memory"), rel_tol=1e-12)
    assert streamed["margin"].to_list() == pytest.approx([0.25, 0.5])
    over = rows.select(ls.margin().over(TOKEN), by_rank=ls.margin(rank="rank").over(TOKEN))
    assert over["margin"].to_list() == pytest.approx([0.25] * 2 + [0.5] * 3)
    assert over["by_rank"].to_list() == over["margin"].to_list()
