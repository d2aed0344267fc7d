"""HALT's features: the numbers of its authors, a slow reference, and the tokens that are left out."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import logprob_store as ls

Token = tuple[float | None, list[float | None]]

FEATURES = ["average_logprob", "rank", "entropy_shown", "entropy_others", "entropy_decision_change"]
PLACE = {"run": "r", "completion_id": 1, "bytes": None, "token_id": None, "logprob_flag": None}
TYPES = {
    "completion_id": pl.Int64,
    "position": pl.Int32,
    "token": pl.String,
    "bytes": pl.Binary,
    "token_id": pl.Int32,
    "logprob": pl.Float64,
    "logprob_flag": pl.String,
    "rank": pl.Int16,
}

logprobs = st.one_of(st.none(), st.floats(-40, 0), st.floats(-2000, -700))
answers = st.lists(st.tuples(logprobs, st.lists(logprobs, max_size=6)), min_size=1, max_size=6)


def features(tokens: list[Token], *, listed: bool = False, section: str = "content") -> list[dict[str, Any]]:
    """The features of each token, given as its logprob and those of the others; `listed` among the alternatives."""
    places = [{**PLACE, "position": number, "section": section} for number in range(len(tokens))]
    rows = [{**place, "token": "own", "logprob": own} for place, (own, _) in zip(places, tokens, strict=True)]
    alternatives = [
        {**place, "token": f"other {rank}", "rank": rank, "logprob": logprob}
        for place, (_, others) in zip(places, tokens, strict=True)
        for rank, logprob in enumerate(others, 2)
    ]
    alternatives += [{**row, "rank": 1} for row in rows if listed]
    schema = {**dict.fromkeys(["run", "section"], pl.String), **TYPES}
    frames = [pl.DataFrame(found, schema=schema).lazy() for found in (rows, alternatives)]
    return ls.halt_features(frames[0].drop("rank"), frames[1]).sort("position").collect().to_dicts()


def entropy_of(logprobs: list[float]) -> float:
    """The entropy of probabilities scaled to sum to 1."""
    masses = [math.exp(x - max(logprobs)) for x in logprobs]
    shares = [mass / math.fsum(masses) for mass in masses]
    return -math.fsum(p * math.log(p) for p in shares if p > 0)


def test_features_of_the_authors() -> None:
    """Two tokens: 0.6 against 0.3 and 0.05, then 0.2 against 0.7 and 0.05."""
    log = math.log
    first, second = features([(log(0.6), [log(0.3), log(0.05)]), (log(0.2), [log(0.7), log(0.05)])])

    assert first["entropy_shown"] == pytest.approx(0.8092054732283177)
    assert second["entropy_others"] == pytest.approx(0.24493002679463544)
    assert second["entropy_decision_change"] == pytest.approx(-0.1068079692371583)
    assert (first["rank"], second["rank"]) == (1, 2)
    assert first["average_logprob"] == pytest.approx((log(0.6) + log(0.3) + log(0.05)) / 3)


@given(answers, st.booleans())
def test_features_are_those_of_the_definition(tokens: list[Token], listed: bool) -> None:  # noqa: FBT001
    """Whether or not the server lists the chosen token among the alternatives, and however unlikely all are."""
    before = None
    for row, (own, all_others) in zip(features(tokens, listed=listed), tokens, strict=True):
        others = [x for x in all_others if x is not None]
        if own is None or not others:
            assert [row[name] for name in [*FEATURES, "entropy_decision"]] == [None] * 6
            continue
        decision = entropy_of([own, max(others)])
        expected = [
            math.fsum([own, *others]) / (1 + len(others)),
            1 + sum(x > own for x in others),
            entropy_of([own, *others]),
            entropy_of(others),
            0.0 if before is None else decision - before,
        ]
        before = decision

        assert row["entropy_decision"] == pytest.approx(decision, rel=1e-9, abs=1e-12)
        assert [row[name] for name in FEATURES] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_tokens_of_the_prompt_have_no_features() -> None:
    """What the user wrote is no answer."""
    assert features([(-1.0, [-2.0])], section="prompt") == []
