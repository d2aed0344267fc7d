"""Label probabilities: spellings, paths, bounds, collisions, and the choices made from them."""

from __future__ import annotations

import math
from math import exp, log
from typing import Any

import polars as pl
import polars.testing
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import logprob_store as ls
from logprob_store.errors import LabelsCollideError
from logprob_store.metrics.labels.probabilities import label_probabilities_in_parts
from logprob_store.metrics.labels.spelling import Spellings

Step = tuple[str | bytes, float | None, dict[str | bytes, float | None]]
"""The chosen token, its logprob, and the listed alternatives with theirs; the chosen one may be missing there."""


def tables(*answers: list[Step], section: str = "content") -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """Tokens and alternatives of answers."""
    tokens, alternatives = [], []
    for number, steps in enumerate(answers):
        for position, (token, logprob, listed) in enumerate(steps):
            where = {"run": "r", "completion_id": number, "section": section, "position": position}
            tokens.append({**where, **spelled(token), "logprob": logprob})
            alternatives += [
                {**where, "rank": rank, **spelled(other), "logprob": value}
                for rank, (other, value) in enumerate(listed.items(), 1)
            ]
    schema = {
        "run": pl.String,
        "completion_id": pl.Int64,
        "section": pl.String,
        "position": pl.Int32,
        "rank": pl.Int16,
        "token": pl.String,
        "bytes": pl.Binary,
        "token_id": pl.Int32,
        "logprob": pl.Float64,
    }
    return pl.LazyFrame(tokens, schema=schema).drop("rank"), pl.LazyFrame(alternatives, schema=schema)


def spelled(token: str | bytes) -> dict[str, Any]:
    """The string and bytes of a token."""
    if isinstance(token, bytes):
        return {"token": token.decode("utf-8", "replace"), "bytes": token}
    return {"token": token, "bytes": None}


def step(listed: dict[str | bytes, float | None], chosen: str | bytes | None = None) -> Step:
    """A step from probabilities instead of logprobs; the first listed token is chosen by default."""
    logs = {token: None if p is None else log(p) for token, p in listed.items()}
    chosen = next(iter(listed)) if chosen is None else chosen
    return chosen, logs[chosen], logs


def labels(*answers: list[Step], names: Any, **kwargs: Any) -> list[dict[str, Any]]:
    """The rows of answers and labels, in order."""
    found = ls.label_probabilities(*tables(*answers), names, **kwargs).collect()
    return found.sort("completion_id", "label_index").to_dicts()


def masses(*answers: list[Step], names: Any, **kwargs: Any) -> list[tuple[float, float, float]]:
    """mass, mass_lower and mass_upper, rounded."""
    rows = labels(*answers, names=names, **kwargs)
    return [tuple(round(row[name], 9) for name in ("mass", "mass_lower", "mass_upper")) for row in rows]


# the numbers of the OpenAI cookbook's notebook


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # printed: Technology 100.0 %, " Technology" 0.0 %; Politics 100.0 %, "Polit" 0.0 %; Art 97.23 %, Sports 1.39 %
        (("Technology", 0.0), (" Technology", -18.75), {"Technology": 100.0, "Politics": 0.0}),
        (("Politics", -3.1281633e-07), ("Polit", -16.0), {"Politics": 100.0, "Technology": 0.0}),
        (("Art", -0.028133942), ("Sports", -4.278134), {"Art": 97.23, "Sports": 1.39}),
    ],
)
def test_cookbook_classification(
    first: tuple[str, float], second: tuple[str, float], expected: dict[str, float]
) -> None:
    """Section 1, three headlines: the printed linear probabilities are the labels' masses."""
    answer: list[Step] = [(first[0], first[1], dict([first, second]))]
    rows = labels(answer, names=["Technology", "Politics", "Sports", "Art"])
    found = {row["label"]: round(100 * row["mass"], 2) for row in rows}

    assert {name: found[name] for name in expected} == expected
    assert all(row["coverage"] <= 1 for row in rows)


def test_cookbook_beginning_and_spelling_count_for_their_labels() -> None:
    """Polit counts for Politics, and Technology with a space for Technology: e^-3.1e-7 + e^-16 and 1 + e^-18.75."""
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
def test_cookbook_has_sufficient_context(token: str, logprob: float, expected: float) -> None:
    """Section 2: True or False with the printed probability."""
    rows = labels([(token, logprob, {token: logprob})], names=["True", "False"])
    found = {row["label"]: row for row in rows}[token]

    assert round(100 * found["mass"], 2) == expected
    assert (found["probability"], found["lower"]) == (1.0, pytest.approx(exp(logprob)))


# spellings


@pytest.mark.parametrize(
    "token", ["True", "true", "TRUE", " True", "\nTRUE", '"True', "**True", "`true", "True.", "True\n"]
)
def test_spellings_of_one_label(token: str) -> None:
    """Space, case, quotes and the sign that ends the word do not matter by default."""
    assert Spellings(["True", "False"]).match(token.encode()).spelled == 0


@pytest.mark.parametrize(
    ("ignore", "token", "expected"),
    [
        ([], "True", 0),
        ([], " True", None),
        ([], "true", None),
        (["space"], " True", 0),
        (["space"], '"True', None),
        (["case"], "TRUE", 0),
        (["quotes"], "'True", 0),
    ],
)
def test_only_the_differences_asked_for_are_ignored(ignore: list[Any], token: str, expected: int | None) -> None:
    """No difference, or one kind, is ignored."""
    assert Spellings(["True", "False"], ignore).match(token.encode()).spelled == expected


@pytest.mark.parametrize("token", ["Truely", "Untrue", "T rue", "1", "<b>"])
def test_other_words_are_no_label(token: str) -> None:
    """A longer word, or another word, matches no label."""
    match = Spellings(["True", "False"]).match(token.encode())

    assert (match.spelled, match.possible, match.undecided) == (None, frozenset(), False)


def test_all_spellings_add_up() -> None:
    """1/2 + 1/8 + 1/16 against 1/4; 1/16 is hidden and may belong to either."""
    answer = [step({"True": 1 / 2, " true": 1 / 8, "No": 1 / 4, "TR": 1 / 16})]
    yes, no = labels(answer, names={"yes": ["yes", "true"], "no": ["no", "false"]})

    assert (yes["mass"], yes["mass_lower"], yes["mass_upper"]) == pytest.approx((11 / 16, 10 / 16, 12 / 16))
    assert (no["mass"], no["mass_lower"], no["mass_upper"]) == pytest.approx((4 / 16, 4 / 16, 5 / 16))
    assert yes["probability"] == pytest.approx(11 / 15)
    # at worst what is surely its, and all that is unknown but cannot be nobody's else: 10 / (10 + 4 + 1)
    assert (yes["lower"], yes["upper"]) == pytest.approx((10 / 15, 12 / 16))
    assert (no["lower"], no["upper"]) == pytest.approx((4 / 16, 5 / 15))
    assert (yes["coverage"], yes["unknown_mass"]) == pytest.approx((15 / 16, 2 / 16))


def test_the_chosen_token_counts_once() -> None:
    """Whether the chosen token is listed or not, its 1/4 counts once."""
    listed = [step({"Yes": 1 / 4, "No": 1 / 2})]
    missing: list[Step] = [("Yes", log(1 / 4), {"No": log(1 / 2)})]

    assert masses(listed, names=["yes", "no"]) == masses(missing, names=["yes", "no"])
    assert masses(missing, names=["yes", "no"]) == [(0.25, 0.25, 0.5), (0.5, 0.5, 0.75)]


def test_bytes_of_a_split_emoji_are_the_beginning_of_a_label() -> None:
    """The first bytes of a label that is an emoji lead to the rest of it."""
    answer = [step({b"\xf0\x9f\x92": 0.5, "no": 0.5}), step({b"\x99": 0.5, b"\x9a": 0.5})]

    assert masses(answer, names=["💙", "no"]) == [(0.25, 0.25, 0.25), (0.5, 0.5, 0.5)]


# labels of several tokens


def test_exact_along_the_tokens_of_the_answer() -> None:
    """Techn 1/2, then ology 3/4: 3/8, both bounds equal; ique is another word."""
    answer = [step({"Techn": 0.5, "Art": 0.5}), step({"ology": 0.75, "ique": 0.25})]

    assert masses(answer, names=["Technology", "Art"]) == [(0.375, 0.375, 0.375), (0.5, 0.5, 0.5)]


def test_bounded_where_the_path_was_not_taken() -> None:
    """How Techn would have gone on is unknown: it counts in the mass, but not in the lower bound."""
    answer = [step({"Art": 0.5, "Techn": 0.5}), step({"ology": 1.0})]

    assert masses(answer, names=["Technology", "Art"]) == [(0.5, 0.0, 0.5), (0.5, 0.5, 0.5)]


def test_a_shared_beginning_is_split_where_it_was_taken() -> None:
    """A not of 0.8, then relevant 0.25 and sure 0.5 of it; the hidden rest of it may belong only to these two."""
    answer = [step({" not": 0.8, "yes": 0.2}), step({" relevant": 0.25, " sure": 0.5})]

    assert masses(answer, names=["not relevant", "not sure", "yes"]) == [
        (0.2, 0.2, 0.4),
        (0.4, 0.4, 0.6),
        (0.2, 0.2, 0.2),
    ]


def test_a_shared_beginning_that_was_not_taken_is_an_error() -> None:
    """The error names the labels, the token and the completion; below 0.01 the mass is in the bounds."""
    answer = [step({"yes": 0.8, " not": 0.2})]
    names = ["not relevant", "not sure", "yes"]

    with pytest.raises(
        LabelsCollideError, match=r"'not relevant' and 'not sure' collide.*' not'.*0\.2.*completion 0 of run r"
    ):
        labels(answer, names=names)
    assert masses(answer, names=names, shared="bound") == [(0.0, 0.0, 0.2), (0.0, 0.0, 0.2), (0.8, 0.8, 0.8)]
    assert masses([step({"yes": 0.995, " not": 0.005})], names=names)[0] == (0.0, 0.0, 0.005)


def test_a_label_that_begins_another() -> None:
    """1 and 10: where 1 was chosen, the next token decides; else an error, bounds, or 1 by `shared`."""
    taken = [step({"1": 0.5, "7": 0.5}), step({"0": 0.25, ".": 0.5, "th": 0.25})]
    other = [step({"7": 0.5, "1": 0.5})]
    names = ["1", "7", "10"]

    assert masses(taken, names=names) == [(0.25, 0.25, 0.25), (0.5, 0.5, 0.5), (0.125, 0.125, 0.125)]
    with pytest.raises(LabelsCollideError, match="'1' and '10' collide"):
        labels(other, names=names)
    assert masses(other, names=names, shared="bound") == [(0.5, 0.0, 0.5), (0.5, 0.5, 0.5), (0.0, 0.0, 0.5)]
    assert masses(other, names=names, shared="whole") == [(0.5, 0.5, 0.5), (0.5, 0.5, 0.5), (0.0, 0.0, 0.0)]
    assert masses(taken, names=names, shared="whole")[0] == (0.5, 0.5, 0.5)


def test_an_answer_that_ends_with_a_label_that_begins_another() -> None:
    """It counts for that label and is in the bounds of the other, because the token that ended it is not stored."""
    assert masses([step({"pos": 0.9, "neg": 0.1})], names=["pos", "positive", "neg"]) == [
        (0.9, 0.0, 0.9),
        (0.0, 0.0, 0.9),
        (0.1, 0.1, 0.1),
    ]


def test_white_space_and_quotes_before_the_label() -> None:
    """A line break and a quote may come before the label; a break that was not chosen may lead to any label."""
    answer = [step({"\n": 0.5, "No": 0.5}), step({'"': 1.0}), step({"Yes": 0.75, "No": 0.25})]
    ahead = [step({"No": 0.5, "\n": 0.5})]

    assert masses(answer, names=["yes", "no"]) == [(0.375, 0.375, 0.375), (0.625, 0.625, 0.625)]
    assert masses(ahead, names=["yes", "no"]) == [(0.0, 0.0, 0.5), (0.5, 0.5, 1.0)]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["True", "true"],
            "labels 'True' and 'true' collide: both are spelled 'true' when case, quotes, space is ignored",
        ),
        ({"a": ["x"], "b": ["y", " X"]}, "labels 'a' and 'b' collide"),
        (["a", " "], "label ' ' has an empty spelling"),
        ([], "there are no labels"),
        ("yes", "labels 'yes' is one text; give a list"),
        ({"yes": "yes"}, "the spellings of label 'yes' are one text, 'yes'; give a list"),
        ({"yes": ["yes"], "no": []}, "label 'no' has no spelling"),
    ],
)
def test_invalid_labels(names: Any, message: str) -> None:
    """The error is raised at once, not when collected."""
    with pytest.raises(ValueError, match=message):
        ls.label_probabilities(*tables(), names)


def test_invalid_arguments() -> None:
    """Two locations, empty or malformed locations, and misspelt words are errors."""
    with pytest.raises(ValueError, match="give one of them"):
        ls.label_probabilities(*tables(), ["a"], after="x", field="/y")
    with pytest.raises(ValueError, match="an empty text is everywhere"):
        ls.label_probabilities(*tables(), ["a"], after="")
    with pytest.raises(ValueError, match="field 'mood' is no RFC 6901 path: it begins with a slash, as '/mood'"):
        ls.label_probabilities(*tables(), ["a"], field="mood")
    with pytest.raises(ValueError, match="section 'answer' is none of prompt, content"):
        ls.label_probabilities(*tables(), ["a"], section="answer")
    with pytest.raises(ValueError, match="'none' is none of error, bound, whole"):
        ls.label_probabilities(*tables(), ["a"], shared="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ignore cases is none of space, case, quotes"):
        ls.label_probabilities(*tables(), ["a"], ignore=["cases"])  # type: ignore[list-item]


# locations


def test_after_a_marker() -> None:
    """The last "Answer:" ends within a token: its alternatives must begin with the same bytes."""
    answer = [
        step({"Answer: No?": 1.0}),
        step({" So answer": 0.5, "Yes": 0.5}),
        step({"Answer": 1.0}),
        step({": Yes": 0.5, ": No": 0.25, " No": 0.25}),
    ]
    rows = labels(answer, names=["yes", "no"], after="Answer:")

    assert [(row["position"], row["mass"]) for row in rows] == [(3, 0.5), (3, 0.25)]


def test_in_a_field() -> None:
    """The letters of a string, after a quote that shares a token with the colon, or with the letters."""
    apart = [step({'{"x":1,"mood": "': 1.0}), step({"sad": 0.75, "happy": 0.25}), step({'"}': 1.0})]
    within = [step({'{"mood"': 1.0}), step({':"happy': 0.5, ':"sad': 0.25, ': "': 0.25}), step({'"}': 1.0})]
    rows = labels(apart, within, names=["happy", "sad"], field="/mood")

    assert [(row["position"], row["mass"]) for row in rows] == [(1, 0.25), (1, 0.75), (1, 0.5), (1, 0.25)]


def test_a_missing_location_is_null() -> None:
    """An answer without the marker or the field keeps its rows, without a position and probabilities."""
    rows = labels([step({"Yes": 1.0})], names=["yes", "no"], after="Answer:")

    assert [(row["position"], row["mass"], row["probability"], row["coverage"]) for row in rows] == [(None,) * 4] * 2
    assert rows[0]["scored_alternatives"] == 0


def test_only_the_given_section() -> None:
    """Reasoning before the answer is not read."""
    tokens, alternatives = tables([step({"No": 1.0})], section="reasoning")
    more_tokens, more = tables([step({"Yes": 1.0})])
    both = pl.concat([tokens, more_tokens]), pl.concat([alternatives, more])
    found = ls.label_probabilities(*both, ["yes", "no"]).filter(pl.col("label") == "yes").collect()

    assert found.select("section", "mass").rows() == [("content", 1.0)]


# nulls


def test_no_label_has_mass() -> None:
    """Coverage 0 gives null probabilities, not NaN, and no choice; the bounds of the mass hold."""
    answer = [step({"Maybe": 0.75})]
    rows = labels(answer, names=["yes", "no"])
    choice = ls.label_choices(ls.label_probabilities(*tables(answer), ["yes", "no"])).collect().row(0, named=True)

    assert [(row["probability"], row["lower"], row["upper"]) for row in rows] == [(None, None, None)] * 2
    assert [(row["mass"], row["mass_upper"], row["coverage"]) for row in rows] == [(0.0, 0.25, 0.0)] * 2
    assert (choice["label"], choice["label_probability"], choice["margin"], choice["coverage"]) == (
        None,
        None,
        None,
        0.0,
    )


def test_flagged_alternatives_are_in_the_mass_not_shown() -> None:
    """An alternative without a logprob adds no mass, and its label may have the mass that is left."""
    answer: list[Step] = [("Yes", log(0.5), {"Yes": log(0.5), "No": None})]
    yes, no = labels(answer, names=["yes", "no"])

    assert (yes["mass"], no["mass"], no["mass_upper"]) == (0.5, 0.0, 0.5)
    assert (yes["scored_alternatives"], yes["unscored_alternatives"]) == (1, 1)


def test_a_label_without_a_logprob_is_not_the_less_likely_one() -> None:
    """True had a p above 1 and was flagged: False, at e^-16, is not the choice, and P(true) is null, not 0."""
    answer: list[Step] = [("True", None, {"True": None, "False": -16.0})]
    true, false = labels(answer, names=["True", "False"])
    _, alternatives = tables(answer)
    found = alternatives.select(ls.p_true(), ls.label_coverage(["True", "False"])).collect().row(0)

    assert (true["probability"], false["probability"]) == (None, None)
    assert (true["lower"], round(true["upper"], 6)) == (0.0, 1.0)
    assert ls.label_choices(ls.label_probabilities(*tables(answer), ["True", "False"])).collect()["label"][0] is None
    assert found == (None, None)


def test_a_label_of_no_mass_may_lack_its_logprob() -> None:
    """-9999 beside 0.995 changes nothing, because only 0.005 is missing; nor does a word that is no label."""
    sentinel: list[Step] = [("True", log(0.995), {"True": log(0.995), "False": None})]
    other: list[Step] = [("True", log(0.5), {"True": log(0.5), "Maybe": None})]
    twice: list[Step] = [("True", None, {"True": log(0.5), "False": log(0.25)})]

    for answer, expected in ((sentinel, 1.0), (other, 1.0), (twice, 2 / 3)):
        assert labels(answer, names=["True", "False"])[0]["probability"] == pytest.approx(expected)
    for answer in (sentinel, other):
        assert tables(answer)[1].select(ls.p_true()).collect().item() == 1.0


def test_an_unscored_chosen_token_ends_the_path() -> None:
    """Its continuation is unknown; with nothing else scored, all is null."""
    alone: list[Step] = [("Yes", None, {})]
    begun: list[Step] = [("Techn", None, {"Art": log(0.25)}), ("ology", -0.1, {})]

    assert [row["mass"] for row in labels(alone, names=["yes", "no"])] == [None, None]
    assert masses(begun, names=["Technology", "Art"]) == [(0.0, 0.0, 0.75), (0.25, 0.25, 1.0)]


def test_no_rows() -> None:
    """Empty tables give no rows."""
    assert ls.label_probabilities(*tables(), ["a", "b"]).collect().height == 0


# choices and scores


def test_choices() -> None:
    """The likeliest label, its lead and its bounds; of equals, the first in the list."""
    sure, tie = [step({"Art": 0.75, "Sports": 0.125})], [step({"Sports": 0.5, "Art": 0.5})]
    found = ls.label_choices(ls.label_probabilities(*tables(sure, tie), ["Art", "Sports"]))
    one, two = found.sort("completion_id").collect().to_dicts()

    assert (one["label"], one["runner_up"]) == ("Art", "Sports")
    assert (one["label_probability"], one["margin"]) == pytest.approx((6 / 7, 5 / 7))
    assert (one["label_lower"], one["label_upper"]) == pytest.approx((6 / 8, 7 / 8))
    assert (two["label"], two["margin"]) == ("Art", 0.0)


def test_expected_score_and_its_bounds() -> None:
    """(4 x 0.5 + 5 x 0.25) / 0.75; the bounds put the unknown 0.25 on 1, or on 5."""
    answer = [step({"4": 0.5, "5": 0.25})]
    rows = ls.label_probabilities(*tables(answer), [str(score) for score in range(1, 6)])
    found = rows.group_by(ls.KEYS).agg(ls.expected_score(), *ls.expected_score_bounds()).collect().row(0, named=True)

    assert found["expected_score"] == pytest.approx(3.25 / 0.75)
    assert (found["expected_score_lower"], found["expected_score_upper"]) == pytest.approx((3.5, 4.5))


def test_p_true_is_the_probability_among_two() -> None:
    """The expression on alternatives and the table of labels agree, where one token decides."""
    answer = [step({"True": 0.5, " true": 0.125, "FALSE": 0.25, "Maybe": 0.125})]
    tokens, alternatives = tables(answer)
    beside = ls.with_chosen(alternatives.with_columns(logprob_flag=None), tokens.with_columns(logprob_flag=None))
    by_token = beside.group_by(ls.POSITION).agg(ls.p_true(), ls.label_coverage(["True", "False"])).collect()
    table = ls.label_probabilities(tokens, alternatives, ["True", "False"]).collect()

    assert by_token["p_true"].item() == pytest.approx(0.625 / 0.875)
    assert by_token["label_coverage"].item() == pytest.approx(0.875)
    assert table["probability"][0] == pytest.approx(by_token["p_true"].item())


def test_p_true_of_nothing_is_null() -> None:
    """P(true) is null where neither is listed, or nothing is scored."""
    frame = pl.DataFrame({"token": ["Maybe"], "logprob": [-0.1]})

    assert frame.select(ls.p_true()).item() is None
    assert frame.head(0).select(ls.p_true(), ls.label_coverage(["a"]), ls.label_mass("a")).row(0) == (None,) * 3


def test_label_mass_leaves_shared_beginnings_out() -> None:
    """S begins Sports and Science, Sp only Sports; part of a character of a label is no error."""
    frame = pl.DataFrame({"token": ["S", "sp", " SPORTS", "💙"], "logprob": [log(0.25)] * 4})

    assert frame.select(ls.label_mass("Sports", ["Science"])).item() == pytest.approx(0.5)
    assert frame.select(ls.label_mass("💙💙", ["Science"])).item() == pytest.approx(0.25)


def test_label_mass_of_a_label_that_begins_another() -> None:
    """No counts, though it begins "not sure"; "not" counts for that label only, and 10 is not 1."""
    frame = pl.DataFrame({"token": ["no", " not", "yes"], "logprob": [log(0.5), log(0.25), log(0.125)]})
    digits = pl.DataFrame({"token": ["1", "10"], "logprob": [log(0.5), log(0.25)]})

    assert frame.select(ls.label_mass("no", ["not sure"])).item() == pytest.approx(0.5)
    assert frame.select(ls.label_coverage(["no", "not sure"])).item() == pytest.approx(0.75)
    assert digits.select(ls.label_mass("1", ["10"]), ls.label_mass("10", ["1"])).row(0) == pytest.approx((0.5, 0.25))


def test_route_refuses_an_invalid_threshold() -> None:
    """A percentage is not a probability."""
    with pytest.raises(ValueError, match="threshold 90 is no probability"):
        ls.route(threshold=90)


# laws

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
    """Cut at k, the bounds enclose the mass and probability of the whole distribution, however begun words go on."""
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
    """So many probabilities that sum to 1."""
    weights = st.lists(st.floats(0.01, 1), min_size=size, max_size=size)
    return weights.map(lambda drawn: [weight / math.fsum(drawn) for weight in drawn])


BRANCHES = {"Techn": ["ology", "ique"], "Tech": ["nology", "nician"], "A": ["rt", "pple"], "Art": [], "x": []}


@settings(max_examples=40)
@given(shares(5), st.lists(shares(2), min_size=3, max_size=3), st.integers(0, 4), st.integers(1, 5), st.integers(1, 2))
def test_bounds_enclose_labels_of_several_tokens(
    first: list[float], second: list[list[float]], taken: int, k: int, k2: int
) -> None:
    """In a tree of tokens, with one path chosen and the top k shown, the true masses are within the bounds."""
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


def cut(whole: dict[str, float], chosen: str, k: int) -> Step:
    """A token chosen, and the k likeliest."""
    likeliest = sorted(whole.items(), key=lambda item: -item[1])[:k]
    return chosen, log(whole[chosen]), {token: log(p) for token, p in likeliest}


@settings(max_examples=20)
@given(st.lists(distributions(), min_size=1, max_size=3), st.integers(1, len(WORDS)), st.randoms(use_true_random=False))
def test_probabilities_add_up_and_order_changes_nothing(answers: list[dict[str, float]], k: int, random: Any) -> None:
    """Probabilities sum to 1, coverage is at most 1, all is within its bounds, in any order of rows."""
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
    """A few completions at a time give the same rows, and a filter on one completion gives only its rows."""
    frames = tables(*([step({"Yes": 0.1 * n, "No": 0.09 * n})] for n in range(1, 6)))
    expected = ls.label_probabilities(*frames, ["yes", "no"]).sort("completion_id", "label_index").collect()
    found = label_probabilities_in_parts(*frames, ["yes", "no"], rows=2)

    assert found.sort("completion_id", "label_index").collect().equals(expected)
    assert found.filter(pl.col("completion_id") == 3).collect().height == 2
