"""EPR and WEPR: the numbers of their authors' own code, a slow reference, and the tokens that are left out."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import logprob_store as ls
from logprob_store.metrics.alternatives.production_rate import production_of_token
from logprob_store.schema import ALTERNATIVES, COMPLETIONS, TOKENS

# the k-th of A has 2^-k; B has 0.9, then 0.1 halved again and again
A = [-k * math.log(2) for k in range(1, 16)]
B = [math.log(0.9)] + [math.log(0.1) - (k - 1) * math.log(2) for k in range(2, 16)]

logprobs = st.one_of(st.none(), st.floats(-40, 0))
answers = st.lists(st.lists(logprobs, max_size=20), min_size=1, max_size=5)


def contributions(*tokens: list[float | None], k: int = 15) -> pl.DataFrame:
    """One row per token, from the alternatives of each in any order."""
    rows = [(number, logprob) for number, token in enumerate(tokens) for logprob in reversed(token)]
    frame = pl.DataFrame(rows, schema={"token": pl.Int64, "logprob": pl.Float64}, orient="row")
    return frame.group_by("token").agg(ls.entropy_contributions(k=k))


def shown(token: list[float | None], k: int) -> list[float]:
    """-p ln p of the k likeliest."""
    return [-math.exp(x) * x for x in sorted((x for x in token if x is not None), reverse=True)[:k]]


@pytest.mark.parametrize(
    ("tokens", "expected"), [([A, B], 0.9247827113299453), ([A], 1.38593476), ([B], 0.46363067)], ids=["both", "A", "B"]
)
def test_epr_of_its_authors(tokens: list[list[float]], expected: float) -> None:
    """What artefactual 2026.7.0 gives for the same logprobs."""
    assert contributions(*tokens).select(ls.epr()).item() == pytest.approx(expected, abs=1e-8)


@given(answers, st.integers(1, 20))
def test_epr_is_that_of_the_definition(tokens: list[list[float | None]], k: int) -> None:
    """The mean over the tokens that have an alternative, null without one, in any engine."""
    each = [sum(found) for found in (shown(token, k) for token in tokens) if found]
    expected = pytest.approx(sum(each) / len(each)) if each else None

    assert contributions(*tokens, k=k).select(ls.epr()).item() == expected
    assert contributions(*tokens, k=k).lazy().select(ls.epr()).collect(engine="streaming").item() == expected


@given(answers, st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=16), st.floats(-3, 3))
def test_wepr_is_that_of_the_definition(
    tokens: list[list[float | None]], weights: list[tuple[float, float]], intercept: float
) -> None:
    """The mean and the maximum of a rank are over the tokens that have it; a rank that none has is 0."""
    each = [found for found in (shown(token, 15) for token in tokens) if found]
    z = intercept
    for rank, (mean, top) in enumerate(weights):
        column = [found[rank] for found in each if len(found) > rank]
        z += mean * sum(column) / len(column) + top * max(column) if column else 0.0
    expected = pytest.approx(1 / (1 + math.exp(-z))) if each else None
    means, tops = [mean for mean, _ in weights], [top for _, top in weights]

    assert (
        contributions(*tokens).select(ls.wepr({"intercept": intercept, "mean": means, "top": tops})).item() == expected
    )


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"intercept": 0.0, "mean": [1.0]}, "the keys intercept, mean: they are intercept, mean and top"),
        ({"intercept": 0.0, "mean": [1.0], "top": [1.0, 2.0]}, "1 for the mean and 2 for the top"),
        ({"intercept": 0.0, "mean": [], "top": []}, "0 for the mean and 0 for the top"),
        ({"intercept": math.nan, "mean": [1.0], "top": [1.0]}, "not a finite number"),
    ],
)
def test_weights_are_checked(weights: Any, message: str) -> None:
    """A missing key, an unequal length and a NaN are refused before anything is computed."""
    with pytest.raises(ValueError, match=message):
        ls.wepr(weights)


def test_k_must_be_a_number_of_alternatives() -> None:
    """Without an alternative there is nothing to add up."""
    with pytest.raises(ValueError, match="k 0 is not a number of alternatives"):
        ls.entropy_contributions(k=0)


@given(st.lists(logprobs, min_size=1, max_size=20), st.sampled_from([20, 2**15 - 1]))
def test_the_named_score_adds_up_the_contributions(token: list[float | None], largest_rank: int) -> None:
    """Whether ranks say that a token has few alternatives or not."""
    frame = pl.DataFrame({"logprob": token}, schema={"logprob": pl.Float64})
    known = largest_rank if len(token) > 14 else len(token)
    expected = pytest.approx(sum(shown(token, 15)), abs=1e-12) if shown(token, 15) else None

    assert frame.select(production_of_token(known)).item() == expected


def test_named_scores_of_an_answer() -> None:
    """`epr` counts a token with one alternative, `min_negentropy` does not; neither counts the prompt."""
    places: list[tuple[str, list[float]]] = [
        ("prompt", [-1.0, -2.0]),
        ("content", A),
        ("content", B),
        ("content", [-0.5]),
    ]
    rows = [
        {"run": "r", "completion_id": 1, "section": section, "position": position, "rank": rank, "logprob": logprob}
        for position, (section, token) in enumerate(places)
        for rank, logprob in enumerate(token, 1)
    ]
    alternatives = pl.DataFrame(rows, schema={"run": pl.String, **ALTERNATIVES}).lazy()
    tokens = pl.DataFrame([], schema={"run": pl.String, **TOKENS}).lazy()
    completions = pl.DataFrame([{"run": "r", "completion_id": 1}], schema={"run": pl.String, **COMPLETIONS}).lazy()
    found = ls.scores(tokens, alternatives, completions, metrics=["epr", "min_negentropy"]).collect()

    assert found["epr"].item() == pytest.approx((1.38593476 + 0.46363067 + 0.5 * math.exp(-0.5)) / 3, abs=1e-8)
    # uqlm's min_token_negentropy of A and B
    assert found["min_negentropy"].item() == pytest.approx(0.4882123916203529)
