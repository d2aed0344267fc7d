"""The numbers the OpenAI cookbook's notebook `Using_logprobs.ipynb` prints, from the logprobs it prints."""

from __future__ import annotations

from math import exp

import polars as pl
import pytest
from metrics.label_answers import Step, labels

import logprob_store as ls

# section "Autocomplete": stem -> (next token, logprob, printed per cent), as the notebook prints them
AUTOCOMPLETE = {
    "My least favorite TV show is": [
        ("My", -0.47896808, 61.94),
        ("one", -1.7289681, 17.75),
        ("the", -2.9789681, 5.08),
    ],
    "My least favorite TV": [
        ("show", -0.57662326, 56.18),
        ("My", -0.82662326, 43.75),
        (" show", -8.201623, 0.03),
    ],
    "My least favorite TV show": [
        ("is", -0.70817715, 49.25),
        ("My", -0.70817715, 49.25),
        ("was", -4.833177, 0.8),
    ],
    "My least favorite TV show is Breaking Bad": [
        ("because", -0.034502674, 96.61),
        (",", -3.7845027, 2.27),
        (" because", -5.0345025, 0.65),
    ],
}
STEMS = pl.DataFrame(
    [(stem, *row) for stem, rows in AUTOCOMPLETE.items() for row in rows],
    schema=["stem", "token", "logprob", "percent"],
    orient="row",
)


@pytest.mark.parametrize(
    ("logprob", "expected"),
    [
        # section 1, classification, the first two alternatives of three headlines
        (0.0, 100.0),  # Technology
        (-18.75, 0.0),  # " Technology"
        (-3.1281633e-07, 100.0),  # Politics
        (-16.0, 0.0),  # "Polit"
        (-0.028133942, 97.23),  # Art
        (-4.278134, 1.39),  # Sports
        # section 2, has_sufficient_context
        (-7.89631e-07, 100.0),  # True
        (-0.008654992, 99.14),  # False
        (-0.004082317, 99.59),  # True
    ],
)
def test_linear_probability(logprob: float, expected: float) -> None:
    """One token's confidence, joint and least probability are its printed linear probability."""
    frame = pl.DataFrame({"logprob": [logprob]})
    actual = frame.select(ls.confidence(), ls.joint_probability(), ls.min_probability()).row(0)

    assert [round(100 * p, 2) for p in actual] == [expected] * 3


def test_margin_of_the_art_headline() -> None:
    """Art 97.23 % before Sports 1.39 % is a lead of 95.84 points."""
    frame = pl.DataFrame({"logprob": [-0.028133942, -4.278134]})

    assert frame.select(ls.margin() * 100).item() == pytest.approx(97.23 - 1.39, abs=0.01)


def test_autocomplete_probabilities() -> None:
    """Every next token has its printed probability."""
    actual = STEMS.select((ls.joint_probability().over("stem", "token") * 100).round(2)).to_series()

    assert actual.to_list() == STEMS["percent"].to_list()


def test_autocomplete_above_the_high_threshold() -> None:
    """Over 0.95 stays only "... is Breaking Bad" -> because."""
    kept = STEMS.filter(pl.col("logprob").exp() > 0.95)

    assert kept.select("stem", "token").rows() == [("My least favorite TV show is Breaking Bad", "because")]


def test_autocomplete_below_the_low_threshold() -> None:
    """Stems whose best next token has p < 0.60 are the two that end in TV and show."""
    best = STEMS.filter(pl.int_range(pl.len()).over("stem") == 0)
    kept = best.group_by("stem", maintain_order=True).agg(ls.low_confidence_share(threshold=0.6), "token")
    low = kept.filter(pl.col("low_confidence_share") > 0).select("stem", pl.col("token").list.first())

    assert low.rows() == [("My least favorite TV", "show"), ("My least favorite TV show", "is")]


def test_autocomplete_tie_has_no_margin() -> None:
    """Two tokens, is and My, share 49.25 %: the margin is 0, not the distance to the third."""
    ranked = STEMS.with_columns(rank=pl.int_range(1, pl.len() + 1).over("stem"))
    tie = ranked.filter(pl.col("stem") == "My least favorite TV show")
    actual = tie.select(
        ls.margin(),
        ls.logprob_margin(),
        by_rank=ls.margin(rank="rank"),
        logs_by_rank=ls.logprob_margin(rank="rank"),
    )

    assert actual.row(0) == (0.0, 0.0, 0.0, 0.0)


def test_emoji_bytes_joint_probability() -> None:
    """Section on bytes: "Here is the blue heart emoji ..." has joint probability 72.19 %."""
    logprobs = [
        -0.054242473,  # Here
        -0.0044352207,  # " is"
        -2.1008714e-06,  # " the"
        -0.0013290489,  # " blue"
        0.0,  # " heart"
        0.0,  # " emoji"
        -0.038287632,  # " and"
        0.0,  # " its"
        -1.569009e-05,  # " name"
        -0.11313002,  # ":\n\n"
        -0.09048584,  # bytes f0 9f 92
        0.0,  # byte 99
        -0.023958502,  # " Blue"
        -6.2729996e-06,  # " Heart"
    ]
    actual = pl.DataFrame({"logprob": logprobs}).select(ls.joint_probability()).item()

    assert round(100 * actual, 2) == 72.19


FIRST = """-0.00 0.00 -0.00 0.00 -0.00 -0.73 -0.00 -0.01 -0.02 -0.00 0.00 -0.02 -0.66 -0.03 -0.62 -0.47 -0.02
-0.39 -0.01 -0.20 -0.00"""
SECOND = """-0.02 -0.00 0.00 -0.00 0.00 -0.05 -0.35 -0.01 -0.02 -0.64 -0.43 -0.25 -0.16 -0.51 -0.02 -0.43
-0.08
-0.07 -0.97 -0.02 -0.48 -0.00 -0.00 -0.48 -0.01 -0.58 -0.00"""


@pytest.mark.parametrize(
    ("printed", "tokens", "expected"), [(FIRST, 21, 1.1644170003987546), (SECOND, 27, 1.2292170270768858)]
)
def test_perplexity(printed: str, tokens: int, expected: float) -> None:
    """Section on perplexity: the printed two decimals give the printed perplexity to 1e-3."""
    frame = pl.DataFrame({"logprob": [float(x) for x in printed.split()]})
    scored, perplexity = frame.select(ls.scored_tokens(), ls.perplexity()).row(0)

    assert scored == tokens
    assert perplexity == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # printed: Technology 100.0 %, " Technology" 0.0 %; Politics 100.0 %, "Polit" 0.0 %; Art 97.23 %, Sports 1.39 %
        (("Technology", 0.0), (" Technology", -18.75), {"Technology": 100.0, "Politics": 0.0}),
        (("Politics", -3.1281633e-07), ("Polit", -16.0), {"Politics": 100.0, "Technology": 0.0}),
        (("Art", -0.028133942), ("Sports", -4.278134), {"Art": 97.23, "Sports": 1.39}),
    ],
)
def test_label_masses_of_the_classification(
    first: tuple[str, float], second: tuple[str, float], expected: dict[str, float]
) -> None:
    """Section 1, three headlines: the printed linear probabilities are the labels' masses."""
    answer: list[Step] = [(first[0], first[1], dict([first, second]))]
    rows = labels(answer, names=["Technology", "Politics", "Sports", "Art"])
    found = {row["label"]: round(100 * row["mass"], 2) for row in rows}

    assert {name: found[name] for name in expected} == expected
    assert all(row["coverage"] <= 1 for row in rows)


def test_beginnings_and_spellings_count_for_their_labels() -> None:
    """The token "Polit" counts for Politics, and " Technology" for Technology."""
    politics, _ = labels(
        [("Politics", -3.1281633e-07, {"Politics": -3.1281633e-07, "Polit": -16.0})], names=["Politics", "Art"]
    )
    technology, _ = labels(
        [("Technology", 0.0, {"Technology": 0.0, " Technology": -18.75})], names=["Technology", "Art"]
    )

    assert politics["mass"] == pytest.approx(exp(-3.1281633e-07) + exp(-16.0), abs=1e-12)
    assert politics["mass_lower"] == pytest.approx(exp(-3.1281633e-07), abs=1e-12)
    # A sum that rounding pushes above 1 is 1.
    assert technology["mass"] == 1.0


@pytest.mark.parametrize(
    ("token", "logprob", "expected"),
    [
        ("True", -3.1281633e-07, 100.0),
        ("True", -7.89631e-07, 100.0),
        ("False", -0.008654992, 99.14),
        ("True", -0.004082317, 99.59),
    ],
)
def test_label_masses_of_has_sufficient_context(token: str, logprob: float, expected: float) -> None:
    """Section 2: True or False with the printed probability."""
    rows = labels([(token, logprob, {token: logprob})], names=["True", "False"])
    found = {row["label"]: row for row in rows}[token]

    assert round(100 * found["mass"], 2) == expected
    assert (found["probability"], found["lower"]) == (1.0, pytest.approx(exp(logprob)))
