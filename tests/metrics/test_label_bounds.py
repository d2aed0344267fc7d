"""Laws of label probabilities: bounds enclose the truth, sums, and order of rows."""

from __future__ import annotations

import math
from math import log
from typing import Any

import polars as pl
import polars.testing
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics.label_answers import Step, labels, step, tables

import logprob_store as ls
from logprob_store.metrics.labels.probabilities import label_probabilities_in_parts

WORDS = ["yes", "Yes", " yes", "no", "NO", "ye", "n", "maybe", "y", " ", "x"]


@st.composite
def distributions(draw: st.DrawFn) -> dict[str, float]:
    """Probabilities of all words of a small vocabulary."""
    weights = draw(st.lists(st.floats(0.001, 1), min_size=len(WORDS), max_size=len(WORDS)))
    total = math.fsum(weights)
    return {word: weight / total for word, weight in zip(WORDS, weights, strict=True)}


@settings(max_examples=40)
@given(distributions(), st.integers(1, len(WORDS)))
def test_bounds_enclose_the_whole_distribution(whole: dict[str, float], k: int) -> None:
    """Cut at k, the bounds enclose mass and probability of the whole distribution, whatever begun words become."""
    top = dict(sorted(whole.items(), key=lambda item: -item[1])[:k])
    rows = labels([step(dict(top))], names=["yes", "no"])
    # Beginnings may become their label or nothing; white space may become anything.
    sure = {"yes": sum(whole[word] for word in ("yes", "Yes", " yes")), "no": whole["no"] + whole["NO"]}
    for row in rows:
        other = "no" if row["label"] == "yes" else "yes"
        for became in (
            sure,
            {"yes": sure["yes"] + whole["ye"] + whole["y"], "no": sure["no"] + whole["n"] + whole[" "]},
        ):
            own = became[row["label"]]
            assert row["mass_lower"] - 1e-9 <= own <= row["mass_upper"] + 1e-9
            if row["coverage"]:
                assert row["lower"] - 1e-9 <= own / (own + became[other]) <= row["upper"] + 1e-9


def shares(size: int) -> st.SearchStrategy[list[float]]:
    """A list of `size` probabilities that sum to 1."""
    weights = st.lists(st.floats(0.01, 1), min_size=size, max_size=size)
    return weights.map(lambda drawn: [weight / math.fsum(drawn) for weight in drawn])


BRANCHES = {"Techn": ["ology", "ique"], "Tech": ["nology", "nician"], "A": ["rt", "pple"], "Art": [], "x": []}


@settings(max_examples=40)
@given(shares(5), st.lists(shares(2), min_size=3, max_size=3), st.integers(0, 4), st.integers(1, 5), st.integers(1, 2))
def test_bounds_enclose_labels_of_several_tokens(
    first: list[float], second: list[list[float]], taken: int, k: int, k2: int
) -> None:
    """In a tree of tokens with one chosen path and the top k shown, the true masses are within the bounds."""
    tops = dict(zip(BRANCHES, first, strict=True))
    rests = {
        begun: dict(zip(BRANCHES[begun], shares_, strict=True))
        for begun, shares_ in zip(("Techn", "Tech", "A"), second, strict=True)
    }
    truth = {
        "Technology": tops["Techn"] * rests["Techn"]["ology"] + tops["Tech"] * rests["Tech"]["nology"],
        "Art": tops["Art"] + tops["A"] * rests["A"]["rt"],
    }
    begun = list(BRANCHES)[taken]
    answer = [cut(tops, begun, k)]
    if begun in rests:
        answer.append(cut(rests[begun], BRANCHES[begun][taken % 2], k2))

    for row in labels(answer, names=["Technology", "Art"]):
        other = "Art" if row["label"] == "Technology" else "Technology"
        share = truth[row["label"]] / (truth[row["label"]] + truth[other])
        assert row["mass_lower"] - 1e-9 <= truth[row["label"]] <= row["mass_upper"] + 1e-9
        if row["coverage"]:
            assert row["lower"] - 1e-9 <= share <= row["upper"] + 1e-9


@settings(max_examples=40)
@given(shares(2), shares(4), st.integers(0, 3), st.integers(1, 4))
def test_bounds_enclose_a_label_whose_word_may_go_on(
    first: list[float], second: list[float], taken: int, k: int
) -> None:
    """Behind "no", two tokens end it, one makes another word of it, and one a compound: the top k are shown."""
    whole = dict(zip([".", "\n", "thing", "-one"], second, strict=True))
    answer = [step({"no": first[0], "yes": first[1]}), cut(whole, list(whole)[taken], k)]
    truth = first[0] * (whole["."] + whole["\n"])
    _, no = labels(answer, names=["yes", "no"])

    assert no["mass_lower"] - 1e-9 <= truth <= no["mass_upper"] + 1e-9
    assert no["lower"] - 1e-9 <= truth / (truth + first[1]) <= no["upper"] + 1e-9


def cut(whole: dict[str, float], chosen: str, k: int) -> Step:
    """A step with this chosen token and the k likeliest alternatives."""
    likeliest = sorted(whole.items(), key=lambda item: -item[1])[:k]
    return chosen, log(whole[chosen]), {token: log(p) for token, p in likeliest}


@settings(max_examples=20)
@given(st.lists(distributions(), min_size=1, max_size=3), st.integers(1, len(WORDS)), st.randoms(use_true_random=False))
def test_probabilities_add_up_and_order_changes_nothing(answers: list[dict[str, float]], k: int, random: Any) -> None:
    """Probabilities sum to 1 and lie within their bounds, whatever the order of rows."""
    tops = [dict(sorted(whole.items(), key=lambda item: -item[1])[:k]) for whole in answers]
    tokens, alternatives = tables(*([step(dict(top))] for top in tops))
    seed = random.randrange(1000)
    shuffled = [frame.collect().sample(fraction=1, shuffle=True, seed=seed).lazy() for frame in (tokens, alternatives)]
    order = ["completion_id", "label_index"]
    table = ls.label_probabilities(tokens, alternatives, ["yes", "no"]).sort(order).collect()
    again = ls.label_probabilities(*shuffled, ["yes", "no"]).sort(order).collect()

    polars.testing.assert_frame_equal(table, again)
    for row in table.iter_rows(named=True):
        assert row["coverage"] <= 1
        assert row["mass_lower"] <= row["mass"] + 1e-12
        assert row["mass"] <= row["mass_upper"] + 1e-12
        if row["coverage"]:
            assert row["lower"] - 1e-12 <= row["probability"] <= row["upper"] + 1e-12
    sums = table.filter(pl.col("coverage") > 0).group_by("completion_id").agg(pl.col("probability").sum())
    assert sums["probability"].to_list() == pytest.approx([1.0] * sums.height)


def test_parts_change_nothing() -> None:
    """Reading a few completions at a time gives the same rows, also behind a filter."""
    frames = tables(*([step({"Yes": 0.1 * n, "No": 0.09 * n})] for n in range(1, 6)))
    expected = ls.label_probabilities(*frames, ["yes", "no"]).sort("completion_id", "label_index").collect()
    found = label_probabilities_in_parts(*frames, ["yes", "no"], rows=2)

    assert found.sort("completion_id", "label_index").collect().equals(expected)
    assert found.filter(pl.col("completion_id") == 3).collect().height == 2
