"""Judges' verdicts: the numbers of the paper's definitions, slow references, and what gives null."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import logprob_store as ls

masses = st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1)), min_size=1, max_size=9)


def labels(mass: list[float | None], pair: int = 1) -> pl.LazyFrame:
    """The rows of one pair's labels."""
    schema = {"pair": pl.Int64, "label_index": pl.Int32, "label": pl.String, "mass": pl.Float64}
    rows = [(pair, index, str(index), value) for index, value in enumerate(mass)]
    return pl.DataFrame(rows, schema=schema, orient="row").sample(fraction=1, shuffle=True, seed=1).lazy()


def judged(first: list[float | None], swapped: list[float | None]) -> list[float | None]:
    """The probabilities of the labels of one pair, from the first label to the last."""
    return (
        ls.both_orders(labels(first), labels(swapped), by="pair").sort("label_index").collect()["probability"].to_list()
    )


@pytest.mark.parametrize(
    ("mass", "expected"),
    [([0.05, 0.1, 0.2, 0.4, 0.25], 2.8331090033920066), ([0.0, 0.1, 0.3, 0.6, 0.0], 2.952277442494834)],
)
def test_risk_averse_score_by_value(mass: list[float], expected: float) -> None:
    """Of a scale from 1 to 5: the mean less the root of the mean squared shortfall."""
    frame = pl.DataFrame({"label": [1, 2, 3, 4, 5], "mass": mass})

    assert frame.select(ls.risk_averse_score()).item() == pytest.approx(expected)


def test_risk_averse_score_leaves_out_what_has_no_mass() -> None:
    """A null mass is left out, also of the mean; a certain score has no shortfall; no mass gives null."""
    frame = pl.DataFrame({"answer": [1, 1, 2, 2], "label": ["1", "4", "1", "5"], "mass": [None, 0.3, 0.0, None]})
    found = frame.group_by("answer", maintain_order=True).agg(ls.risk_averse_score())

    assert found["risk_averse_score"].to_list() == [pytest.approx(4.0), None]


def test_both_orders_and_preference_by_value() -> None:
    """Averaged before the decision, with the second order read from the other end."""
    first: list[float | None] = [0.2, 0.1, 0.7]
    swapped: list[float | None] = [0.6, 0.1, 0.3]
    both = ls.both_orders(labels(first), labels(swapped), by="pair").collect()

    assert judged(first, swapped) == pytest.approx([0.25, 0.1, 0.65])
    assert both.select(ls.preference()).item() == pytest.approx(-0.22724270454707038)


@given(masses, masses)
def test_both_orders_are_those_of_the_definition(first: list[float], swapped: list[float]) -> None:
    """(p / sum p + q / sum q) / 2, with q reversed; null where one order has no mass."""
    swapped = (swapped * len(first))[: len(first)]
    sums = math.fsum(first), math.fsum(swapped)
    expected = [None] * len(first)
    if min(sums) > 0:
        expected = [
            pytest.approx((p / sums[0] + q / sums[1]) / 2) for p, q in zip(first, reversed(swapped), strict=True)
        ]

    assert judged([*first], [*swapped]) == expected


def test_a_pair_that_was_asked_in_one_order_has_no_verdict() -> None:
    """Its rows stay, with null; the other pair is not touched."""
    first = pl.concat([labels([0.5, 0.5], 1), labels([0.5, 0.5], 2)])
    found = ls.both_orders(first, labels([0.25, 0.75], 1), by=["pair"]).sort("pair", "label_index").collect()

    assert found["probability"].to_list() == [0.625, 0.375, None, None]
    verdicts = found.group_by("pair", maintain_order=True).agg(ls.preference())["preference"].to_list()
    # X is 1 and 0: its mean is 0.625, its standard deviation sqrt(0.625 x 0.375)
    assert verdicts == [pytest.approx(0.625 / (0.625 + math.sqrt(0.625 * 0.375))), None]


@pytest.mark.parametrize(("shares", "expected"), [([1, 0, 0], 1.0), ([0, 0, 1], -1.0), ([0, 1, 0], 0.0), ([], None)])
def test_preference_at_its_ends(shares: list[float], expected: float | None) -> None:
    """All mass on one answer, on the tie, and no label at all."""
    frame = pl.DataFrame(
        {"probability": shares, "label_index": range(len(shares))}, schema_overrides={"probability": pl.Float64}
    )

    assert frame.select(ls.preference()).item() == expected
