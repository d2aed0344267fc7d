"""Confidence sequences: the numbers of confseq, what they hold, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import logprob_store as ls


@pytest.mark.parametrize(
    ("n", "low", "high"),
    [(20, 0.093004081, 0.915017746), (50, 0.322910098, 0.692298633), (100, 0.396131031, 0.614447202)],
)
def test_the_numbers_of_confseq(n: int, low: float, high: float) -> None:
    """The predictable plug-in empirical Bernstein sequence of confseq 0.0.11 over 37 i mod 101 hundredths."""
    values = [round((number * 37 % 101) / 100, 2) for number in range(1, 101)]
    row = ls.confidence_sequence(values).row(n - 1, named=True)

    assert (row["n"], row["low"], row["high"]) == (n, pytest.approx(low, abs=1e-8), pytest.approx(high, abs=1e-8))
    assert row["estimate"] == pytest.approx(sum(values[:n]) / n)


def test_zeros_and_ones() -> None:
    """25 answers, of which 20 are right, by confseq 0.0.11."""
    table = ls.confidence_sequence([1, 0, 1, 1, 1, 0, 1, 1, 1, 1] * 5)

    assert table["low"][24] == pytest.approx(0.413283139, abs=1e-8)


def test_another_range_is_the_same_sequence_stretched() -> None:
    """Values in [-1, 3] give the bounds of (x + 1) / 4, times 4 less 1."""
    values = [0.2, 0.9, 0.4, 0.6] * 30
    plain = ls.confidence_sequence(values)
    wide = ls.confidence_sequence([4 * value - 1 for value in values], low=-1, high=3)

    for name in ("estimate", "low", "high"):
        assert wide[name].to_list() == pytest.approx((plain[name] * 4 - 1).to_list())


def test_nulls_are_left_out() -> None:
    """They take no turn."""
    assert ls.confidence_sequence([0.5, None, 0.25]).equals(ls.confidence_sequence([0.5, 0.25]))
    assert ls.confidence_sequence([]).height == 0


def test_it_holds_at_every_moment() -> None:
    """Of 200 sequences of 500 flips at 5 % (seed 4), at most one in twenty ever leaves the truth out."""
    generator = np.random.default_rng(4)
    left = 0
    for _ in range(200):
        table = ls.confidence_sequence((generator.random(500) < 0.05).astype(float))
        left += ((table["low"] > 0.05) | (table["high"] < 0.05)).any()

    assert left <= 10


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([0.5, 1.5], {}, r"value 1 is 1.5, outside \[0.0, 1.0\]"),
        ([float("nan")], {}, "value 0 is nan, outside"),
        ([0.5], {"level": 1}, "level 1 is not between 0 and 1"),
        ([0.5], {"most_bet": 1}, "most_bet 1 is not between 0 and 1"),
        ([0.5], {"low": 1}, "low 1 and high 1.0"),
        ([0.5], {"high": float("inf")}, "high inf"),
    ],
)
def test_what_is_refused(values: list[float], options: dict[str, float], message: str) -> None:
    """Values that cannot be, and bounds that mean nothing."""
    with pytest.raises(ValueError, match=message):
        ls.confidence_sequence(values, **options)
