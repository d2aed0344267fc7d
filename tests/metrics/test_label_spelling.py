"""Spellings of labels: which tokens match a label, and labels that cannot be told apart."""

from __future__ import annotations

from math import log
from typing import Any

import pytest
from metrics.label_answers import Step, labels, masses, step, tables

import logprob_store as ls
from logprob_store.metrics.labels.spelling import Spellings


@pytest.mark.parametrize(
    "token", ["True", "true", "TRUE", " True", "\nTRUE", '"True', "**True", "`true", "True.", "True\n"]
)
def test_spellings_of_one_label(token: str) -> None:
    """By default, space, case, quotes and a final punctuation mark are ignored."""
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
    """With `ignore`, only the differences in that list are ignored."""
    assert Spellings(["True", "False"], ignore).match(token.encode()).spelled == expected


@pytest.mark.parametrize("token", ["Truely", "Untrue", "T rue", "1", "<b>"])
def test_other_words_match_no_label(token: str) -> None:
    """A longer word, or another word, matches no label."""
    match = Spellings(["True", "False"]).match(token.encode())

    assert (match.spelled, match.possible, match.undecided) == (None, frozenset(), False)


def test_all_spellings_add_up() -> None:
    """1/2 + 1/8 + 1/16 against 1/4; the hidden 1/16 may belong to either label."""
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
    """The chosen token's 1/4 counts once, whether it is among the alternatives or not."""
    listed = [step({"Yes": 1 / 4, "No": 1 / 2})]
    missing: list[Step] = [("Yes", log(1 / 4), {"No": log(1 / 2)})]

    assert masses(listed, names=["yes", "no"]) == masses(missing, names=["yes", "no"])
    assert masses(missing, names=["yes", "no"]) == [(0.25, 0.25, 0.5), (0.5, 0.5, 0.75)]


def test_bytes_of_a_split_emoji_are_the_beginning_of_a_label() -> None:
    """The first bytes of an emoji begin the label that is this emoji."""
    answer = [step({b"\xf0\x9f\x92": 0.5, "no": 0.5}), step({b"\x99": 0.5, b"\x9a": 0.5})]

    assert masses(answer, names=["💙", "no"]) == [(0.25, 0.25, 0.25), (0.5, 0.5, 0.5)]


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
    """Invalid labels are an error at once, not when the query is collected."""
    with pytest.raises(ValueError, match=message):
        ls.label_probabilities(*tables(), names)


def test_invalid_arguments() -> None:
    """Two locations, malformed locations and unknown words are errors."""
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
