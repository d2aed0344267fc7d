"""The choice of a label, expected scores, and expressions over the alternatives of one token."""

from __future__ import annotations

from math import log

import polars as pl
import polars.testing
import pytest
from metrics.label_answers import step, tables

import logprob_store as ls


def test_choices() -> None:
    """The likeliest label is chosen, with its margin and bounds; of equals, the first in the list."""
    sure, tie = [step({"Art": 0.75, "Sports": 0.125})], [step({"Sports": 0.5, "Art": 0.5})]
    found = ls.label_choices(ls.label_probabilities(*tables(sure, tie), ["Art", "Sports"]))
    one, two = found.sort("completion_id").collect().to_dicts()

    assert (one["label"], one["runner_up"]) == ("Art", "Sports")
    assert (one["label_probability"], one["margin"]) == pytest.approx((6 / 7, 5 / 7))
    assert (one["label_lower"], one["label_upper"]) == pytest.approx((6 / 8, 7 / 8))
    assert (two["label"], two["margin"]) == ("Art", 0.0)


def test_expected_score_and_its_bounds() -> None:
    """(4 x 0.5 + 5 x 0.25) / 0.75; the bounds put the unknown 0.25 on 1 and on 5."""
    answer = [step({"4": 0.5, "5": 0.25})]
    rows = ls.label_probabilities(*tables(answer), [str(score) for score in range(1, 6)])
    found = rows.group_by(ls.KEYS).agg(ls.expected_score(), *ls.expected_score_bounds()).collect().row(0, named=True)

    assert found["expected_score"] == pytest.approx(3.25 / 0.75)
    assert (found["expected_score_lower"], found["expected_score_upper"]) == pytest.approx((3.5, 4.5))


def test_p_true_is_the_probability_among_two() -> None:
    """The expression over alternatives agrees with the table of labels where one token decides."""
    answer = [step({"True": 0.5, " true": 0.125, "FALSE": 0.25, "Maybe": 0.125})]
    tokens, alternatives = tables(answer)
    beside = ls.with_chosen(alternatives.with_columns(logprob_flag=None), tokens.with_columns(logprob_flag=None))
    by_token = beside.group_by(ls.POSITION).agg(ls.p_true(), ls.label_coverage(["True", "False"])).collect()
    table = ls.label_probabilities(tokens, alternatives, ["True", "False"]).collect()

    assert by_token["p_true"].item() == pytest.approx(0.625 / 0.875)
    assert by_token["label_coverage"].item() == pytest.approx(0.875)
    assert table["probability"][0] == pytest.approx(by_token["p_true"].item())


def test_p_true_of_nothing_is_null() -> None:
    """P(true) is null where neither word is listed or nothing is scored."""
    frame = pl.DataFrame({"token": ["Maybe"], "logprob": [-0.1]})

    assert frame.select(ls.p_true()).item() is None
    assert frame.head(0).select(ls.p_true(), ls.label_coverage(["a"]), ls.label_mass("a")).row(0) == (None,) * 3


def test_label_mass_leaves_shared_beginnings_out() -> None:
    """The token "S" begins Sports and Science and counts for neither; "sp" counts for Sports."""
    frame = pl.DataFrame({"token": ["S", "sp", " SPORTS", "💙"], "logprob": [log(0.25)] * 4})

    assert frame.select(ls.label_mass("Sports", ["Science"])).item() == pytest.approx(0.5)
    assert frame.select(ls.label_mass("💙💙", ["Science"])).item() == pytest.approx(0.25)


def test_label_mass_of_a_label_that_begins_another() -> None:
    """The token "no" counts for the label no, although it also begins "not sure"; "not" does not, and 10 is not 1."""
    frame = pl.DataFrame({"token": ["no", " not", "yes"], "logprob": [log(0.5), log(0.25), log(0.125)]})
    digits = pl.DataFrame({"token": ["1", "10"], "logprob": [log(0.5), log(0.25)]})

    assert frame.select(ls.label_mass("no", ["not sure"])).item() == pytest.approx(0.5)
    assert frame.select(ls.label_coverage(["no", "not sure"])).item() == pytest.approx(0.75)
    assert digits.select(ls.label_mass("1", ["10"]), ls.label_mass("10", ["1"])).row(0) == pytest.approx((0.5, 0.25))


def test_route_refuses_an_invalid_threshold() -> None:
    """A percentage is not a probability."""
    with pytest.raises(ValueError, match="threshold 90 is no probability"):
        ls.route(threshold=90)
