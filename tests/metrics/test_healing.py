"""Bounds on whether a token crosses the end of a prompt, against sums worked out by hand and full distributions."""

from __future__ import annotations

from itertools import product
from math import log

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import logprob_store as ls


def alternatives(masses: dict[str, float | None], cut: str | bytes | None) -> pl.DataFrame:
    """The alternatives at one position, with the cut beside them."""
    return pl.DataFrame(
        {
            "token": list(masses),
            "bytes": [token.encode() for token in masses],
            "logprob": [None if p is None else log(p) for p in masses.values()],
        },
        schema_overrides={"logprob": pl.Float64, "bytes": pl.Binary},
    ).with_columns(cut=pl.lit(cut, pl.Binary if isinstance(cut, bytes) else pl.String))


def bounds(frame: pl.DataFrame) -> tuple[float, float]:
    """The two bounds of one position."""
    return frame.select(ls.healing_bounds("cut")).row(0)


def test_tokens_that_extend_the_cut_against_the_cut_itself() -> None:
    """All is shown: E = 1/2, X = 1/4, so both bounds are (1/2) / (3/4)."""
    found = bounds(alternatives({"://": 0.5, ":": 0.25, " is": 0.25}, ":"))

    assert found == pytest.approx((2 / 3, 2 / 3))


def test_beginnings_of_the_cut_are_undecided() -> None:
    """E = 1/4, X = 1/4, B = 1/2 (" " of " la"): lower 1/4, upper 3/4."""
    found = bounds(alternatives({" lazy": 0.25, " la": 0.25, " ": 0.5}, " la"))

    assert found == pytest.approx((0.25, 0.75))


def test_the_hidden_mass_is_undecided() -> None:
    """E = 1/4, X = 1/4, m = 1/2: lower 1/4, upper 3/4."""
    found = bounds(alternatives({"://": 0.25, ":": 0.25}, ":"))

    assert found == pytest.approx((0.25, 0.75))


def test_a_null_counts_as_not_shown() -> None:
    """X = 1/2, and the "://" without a logprob is in m = 1/2: from 0 to 1/2."""
    found = bounds(alternatives({"://": None, ":": 0.5}, ":"))

    assert found == pytest.approx((0.0, 0.5))


def test_one_alternative_is_enough() -> None:
    """X = 3/4, m = 1/4."""
    assert bounds(alternatives({":": 0.75}, ":")) == pytest.approx((0.0, 0.25))


@pytest.mark.parametrize(
    "frame",
    [
        alternatives({}, ":"),
        alternatives({"://": None}, ":"),
        alternatives({"://": 0.5, ":": 0.5}, ""),
        alternatives({"://": 0.5, ":": 0.5}, None),
        alternatives({"a": 0.5, "b": 0.5}, ":"),
    ],
    ids=["no rows", "nothing scored", "empty cut", "null cut", "no mass on any"],
)
def test_unknown_bounds_are_null(frame: pl.DataFrame) -> None:
    """Unknown is null: not 0, 1 or NaN."""
    assert bounds(frame) == (None, None)


def test_a_token_without_text_is_no_beginning() -> None:
    """An end-of-text token with an empty text does not count as a beginning: E = 1/2, X = 1/4."""
    found = bounds(alternatives({"://": 0.5, ":": 0.25, "": 0.25}, ":"))

    assert found == pytest.approx((2 / 3, 2 / 3))


def test_bytes_decide_where_a_character_is_split() -> None:
    """Three bytes of a heart are the cut, and the token with all four extends them, though their texts are alike."""
    frame = pl.DataFrame(
        {
            "token": ["\ufffd", "\ufffd"],
            "bytes": [b"\xf0\x9f\x92\x99", b"\xf0\x9f\x92"],
            "logprob": [log(0.75), log(0.25)],
        }
    ).with_columns(cut=pl.lit(b"\xf0\x9f\x92"))

    assert bounds(frame) == pytest.approx((0.75, 0.75))


def test_the_text_stands_in_for_missing_bytes() -> None:
    """Where the server sends no bytes, the strings count: E = 3/4."""
    frame = alternatives({"://": 0.75, ":": 0.25}, ":").with_columns(bytes=pl.lit(None, pl.Binary))

    assert bounds(frame) == pytest.approx((0.75, 0.75))


def test_each_group_has_its_own_cut() -> None:
    """As an aggregation over positions, lazily: "a" is extended by "ab", "ab" is ended by it and begun by "a"."""
    both = pl.concat(
        alternatives({"ab": 0.75, "a": 0.25}, cut).with_columns(position=place) for place, cut in enumerate(["a", "ab"])
    )
    found = both.lazy().group_by("position").agg(ls.healing_bounds("cut")).sort("position").collect()

    # Position 0: E = 3/4, X = 1/4. Position 1: X = 3/4, B = 1/4.
    assert found.rows() == [(0, pytest.approx(0.75), pytest.approx(0.75)), (1, 0.0, pytest.approx(0.25))]


VOCABULARY = ["".join(signs) for length in (1, 2, 3) for signs in product("ab", repeat=length)]


@settings(max_examples=60, deadline=None)
@given(
    weights=st.lists(st.integers(1, 1000), min_size=len(VOCABULARY), max_size=len(VOCABULARY)),
    shown=st.integers(1, len(VOCABULARY)),
    cut=st.sampled_from(["a", "ab", "ba", "aba"]),
    share=st.floats(0, 1),
)
def test_the_bounds_enclose_the_truth_of_a_known_distribution(
    weights: list[int], shown: int, cut: str, share: float
) -> None:
    """Cut at k, they enclose the share of tokens that cross the end; of the beginnings, `share` crosses."""
    masses = {token: weight / sum(weights) for token, weight in zip(VOCABULARY, weights, strict=True)}
    crossing = sum(p for token, p in masses.items() if token.startswith(cut) and token != cut)
    undecided = sum(p for token, p in masses.items() if cut.startswith(token) and token != cut)
    truth = (crossing + share * undecided) / (crossing + undecided + masses[cut])
    top = dict(sorted(masses.items(), key=lambda item: -item[1])[:shown])

    lower, upper = bounds(alternatives(top, cut))

    assert lower - 1e-9 <= truth <= upper + 1e-9
