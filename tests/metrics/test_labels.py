"""Label probabilities: masses and bounds along the tokens of an answer, locations, and nulls."""

from __future__ import annotations

from math import log

import polars as pl
import polars.testing
import pytest
from metrics.label_answers import Step, labels, masses, step, tables

import logprob_store as ls
from logprob_store.errors import LabelsCollideError


def test_exact_along_the_tokens_of_the_answer() -> None:
    """Techn (1/2), then ology (3/4), is 3/8 with equal bounds; Technique is another word."""
    answer = [step({"Techn": 0.5, "Art": 0.5}), step({"ology": 0.75, "ique": 0.25})]

    assert masses(answer, names=["Technology", "Art"]) == [(0.375, 0.375, 0.375), (0.5, 0.5, 0.5)]


def test_bounded_where_the_path_was_not_taken() -> None:
    """The continuation of an alternative is unknown: its mass counts, but not in the lower bound."""
    answer = [step({"Art": 0.5, "Techn": 0.5}), step({".": 1.0})]

    assert masses(answer, names=["Technology", "Art"]) == [(0.5, 0.0, 0.5), (0.5, 0.5, 0.5)]


def test_a_shared_beginning_is_split_where_it_was_taken() -> None:
    """After " not" (0.8): relevant 0.25, sure 0.5; its hidden rest may belong only to these two labels."""
    answer = [step({" not": 0.8, "yes": 0.2}), step({" relevant": 0.25, " sure": 0.5})]

    assert masses(answer, names=["not relevant", "not sure", "yes"]) == [
        (0.2, 0.2, 0.4),
        (0.4, 0.4, 0.6),
        (0.2, 0.2, 0.2),
    ]


def test_a_shared_beginning_that_was_not_taken_is_an_error() -> None:
    """The error names labels, token and completion; below 0.01 the mass is in the bounds instead."""
    answer = [step({"yes": 0.8, " not": 0.2})]
    names = ["not relevant", "not sure", "yes"]

    with pytest.raises(
        LabelsCollideError, match=r"'not relevant' and 'not sure' collide.*' not'.*0\.2.*completion 0 of run r"
    ):
        labels(answer, names=names)
    assert masses(answer, names=names, shared="bound") == [(0.0, 0.0, 0.2), (0.0, 0.0, 0.2), (0.8, 0.8, 0.8)]
    assert masses([step({"yes": 0.995, " not": 0.005})], names=names)[0] == (0.0, 0.0, 0.005)


def test_a_label_that_begins_another() -> None:
    """After the chosen 1 the next token decides between 1 and 10; elsewhere `shared` decides."""
    taken = [step({"1": 0.5, "7": 0.5}), step({"0": 0.25, ".": 0.5, "th": 0.25})]
    other = [step({"7": 0.5, "1": 0.5})]
    names = ["1", "7", "10"]

    assert masses(taken, names=names) == [(0.25, 0.25, 0.25), (0.5, 0.5, 0.5), (0.125, 0.125, 0.125)]
    with pytest.raises(LabelsCollideError, match="'1' and '10' collide"):
        labels(other, names=names)
    assert masses(other, names=names, shared="bound") == [(0.5, 0.0, 0.5), (0.5, 0.5, 0.5), (0.0, 0.0, 0.5)]
    assert masses(other, names=names, shared="whole") == [(0.5, 0.5, 0.5), (0.5, 0.5, 0.5), (0.0, 0.0, 0.0)]


def test_whole_labels_read_on_where_the_answer_does() -> None:
    """The answers "nothing", "10" and "1x" are no "no" and no 1 there either; "1" alone, and "1.", are 1."""
    nothing = [step({"no": 0.9, "yes": 0.1}), step({"thing": 0.99, ".": 0.01})]
    names = ["1", "7", "10"]
    goes_on = [step({"1": 0.5, "7": 0.5}), step({"x": 0.5, "0": 0.25, ".": 0.25})]
    hidden = [step({"1": 0.5, "7": 0.5}), step({".": 0.5})]

    assert masses(nothing, names=["yes", "no"], shared="whole") == [(0.1, 0.1, 0.1), (0.009, 0.009, 0.009)]
    assert masses(goes_on, names=names, shared="whole") == [(0.125,) * 3, (0.5,) * 3, (0.125,) * 3]
    # What was not shown behind a 1 counts for it, and is not surely its own.
    assert masses(hidden, names=names, shared="whole") == [(0.5, 0.25, 0.5), (0.5,) * 3, (0.0, 0.0, 0.0)]
    assert masses([step({"1": 0.5, "7": 0.5})], names=names, shared="whole")[0] == (0.5,) * 3


def test_an_answer_that_ends_with_a_label_that_begins_another() -> None:
    """The token that ended it is not stored, so its mass is also in the other label's upper bound."""
    assert masses([step({"pos": 0.9, "neg": 0.1})], names=["pos", "positive", "neg"]) == [
        (0.9, 0.0, 0.9),
        (0.0, 0.0, 0.9),
        (0.1, 0.1, 0.1),
    ]


def test_white_space_and_quotes_before_the_label() -> None:
    """A line break and a quote may precede the label; a line break that was not chosen may lead to any label."""
    answer = [step({"\n": 0.5, "No": 0.5}), step({'"': 1.0}), step({"Yes": 0.75, "No": 0.25})]
    ahead = [step({"No": 0.5, "\n": 0.5})]

    assert masses(answer, names=["yes", "no"]) == [(0.375, 0.375, 0.375), (0.625, 0.625, 0.625)]
    assert masses(ahead, names=["yes", "no"]) == [(0.0, 0.0, 0.5), (0.5, 0.5, 1.0)]


# a label's word may go on


def test_a_label_that_goes_on_as_another_word_is_none() -> None:
    """The answer "nothing" is no "no": 0.9 times the 0.01 of a full stop."""
    answer = [step({"no": 0.9, "yes": 0.1}), step({"thing": 0.99, ".": 0.01})]

    assert masses(answer, names=["yes", "no"]) == [(0.1, 0.1, 0.1), (0.009, 0.009, 0.009)]


def test_what_was_not_shown_behind_a_label_counts_and_is_not_certain() -> None:
    """Of the 0.8 of "no", 1/2 is shown to end, 1/4 to go on, and 1/4 is not shown."""
    answer = [step({"no": 0.8, "yes": 0.2}), step({".": 0.5, "thing": 0.25})]
    yes, no = labels(answer, names=["yes", "no"])

    assert (no["mass"], no["mass_lower"], no["mass_upper"]) == pytest.approx((0.6, 0.4, 0.6))
    assert (yes["lower"], yes["upper"]) == pytest.approx((0.2 / 0.8, 0.2 / 0.6))
    assert (yes["coverage"], yes["unknown_mass"]) == pytest.approx((0.8, 0.2))


def test_a_word_may_go_on_behind_a_joining_sign() -> None:
    """The label "no" and "-" are still open: "one" makes another word of them, a line break does not."""
    answer = [step({"no": 0.5, "yes": 0.5}), step({"-": 1.0}), step({"one": 0.75, "\n": 0.25})]

    assert masses(answer, names=["yes", "no"]) == [(0.5, 0.5, 0.5), (0.125, 0.125, 0.125)]


def test_a_number_may_go_on_behind_its_point() -> None:
    """The answer 4.5 is no 4; of the point, 0.2 is followed by a line break."""
    answer = [step({"4": 1.0}), step({".": 0.5, "/": 0.5}), step({"5": 0.8, "\n": 0.2})]

    assert masses(answer, names=["4", "5"]) == [(0.6, 0.6, 0.6), (0.0, 0.0, 0.0)]


def test_a_number_before_its_point_is_a_label_beside_one_with_a_point() -> None:
    """The text "1." may become 1.5, and may be the 1 that ends a sentence."""
    answer = [step({"1": 1.0}), step({".": 1.0}), step({"5": 0.25, "\n": 0.75})]

    assert masses(answer, names=["1", "1.5"]) == [(0.75, 0.75, 0.75), (0.25, 0.25, 0.25)]


def test_a_whole_label_that_nothing_follows_is_that_label() -> None:
    """Where no next token is stored, as behind what was not chosen, a whole label counts as that label."""
    assert masses([step({"no": 0.9, "yes": 0.1})], names=["yes", "no"]) == [(0.1, 0.1, 0.1), (0.9, 0.9, 0.9)]


def test_a_token_without_a_logprob_behind_a_label_takes_no_probability_away() -> None:
    """What follows can only be of this label or of none, so the answer is still known."""
    answer: list[Step] = [step({"no": 0.9, "yes": 0.1}), (".", None, {})]

    assert masses(answer, names=["yes", "no"]) == [(0.1, 0.1, 0.1), (0.9, 0.0, 0.9)]
    assert labels(answer, names=["yes", "no"])[1]["probability"] == pytest.approx(0.9)


# escapes and spellings of vocabularies


def test_json_escapes_in_a_field_are_their_characters() -> None:
    r"""`R\u00e9sum\u00e9` is Résumé, also where tokens cut its escapes: 0.9 times 1/2."""
    whole = [step({'{"m": "': 1.0}), step({r"R\u00e9sum\u00e9": 0.9, "Lettre": 0.1}), step({'"}': 1.0})]
    cut = [
        step({'{"m": "': 1.0}),
        step({"R\\": 0.9, "Lettre": 0.1}),
        *(step({token: 1.0}) for token in ("u00", "e9", "sum")),
        step({r"\u00e9": 0.5, r"\u00e8": 0.5}),
        step({'"}': 1.0}),
    ]

    for answer, mass in ((whole, 0.9), (cut, 0.45)):
        assert masses(answer, names=["R\u00e9sum\u00e9", "Lettre"], field="/m") == [(mass,) * 3, (0.1,) * 3]


@pytest.mark.parametrize("space", ["\u0120", "\u2581"])
def test_tokens_as_a_vocabulary_spells_them(space: str) -> None:
    """At the beginning, behind a marker, and in a field, "Ġyes" and "▁yes" are " yes"."""
    end = step({f"{space}it": 1.0})
    first = [step({f"{space}yes": 0.75, f"{space}no": 0.25}), end]
    behind = [step({"The": 1.0}), step({f"{space}answer:": 1.0}), *first]
    field = [step({f'{{"m":{space}"': 1.0}), step({"yes": 0.75, "no": 0.25}), step({'"}': 1.0})]

    for answer, where in ((first, {}), (behind, {"after": "The answer:"}), (field, {"field": "/m"})):
        assert masses(answer, names=["yes", "no"], **where) == [(0.75,) * 3, (0.25,) * 3]


# locations


def test_after_a_marker() -> None:
    """The last "Answer:" ends within a token, so its alternatives must begin with the same bytes."""
    answer = [
        step({"Answer: No?": 1.0}),
        step({" So answer": 0.5, "Yes": 0.5}),
        step({"Answer": 1.0}),
        step({": Yes": 0.5, ": No": 0.25, " No": 0.25}),
    ]
    rows = labels(answer, names=["yes", "no"], after="Answer:")

    assert [(row["position"], row["mass"]) for row in rows] == [(3, 0.5), (3, 0.25)]


def test_in_a_field() -> None:
    """The string value of a field is read, also where its quote shares a token with the colon or the letters."""
    apart = [step({'{"x":1,"mood": "': 1.0}), step({"sad": 0.75, "happy": 0.25}), step({'"}': 1.0})]
    within = [step({'{"mood"': 1.0}), step({':"happy': 0.5, ':"sad': 0.25, ': "': 0.25}), step({'"}': 1.0})]
    rows = labels(apart, within, names=["happy", "sad"], field="/mood")

    assert [(row["position"], row["mass"]) for row in rows] == [(1, 0.25), (1, 0.75), (1, 0.5), (1, 0.25)]


def test_a_missing_location_is_null() -> None:
    """An answer without the marker or field keeps its rows, with a null position and null probabilities."""
    rows = labels([step({"Yes": 1.0})], names=["yes", "no"], after="Answer:")

    assert [(row["position"], row["mass"], row["probability"], row["coverage"]) for row in rows] == [(None,) * 4] * 2
    assert rows[0]["scored_alternatives"] == 0


def test_only_the_given_section() -> None:
    """The label is not looked for in the reasoning before the answer."""
    tokens, alternatives = tables([step({"No": 1.0})], section="reasoning")
    more_tokens, more = tables([step({"Yes": 1.0})])
    both = pl.concat([tokens, more_tokens]), pl.concat([alternatives, more])
    found = ls.label_probabilities(*both, ["yes", "no"]).filter(pl.col("label") == "yes").collect()

    assert found.select("section", "mass").rows() == [("content", 1.0)]


# nulls


def test_no_label_has_mass() -> None:
    """With coverage 0 the probabilities are null, not NaN, and there is no choice; the bounds of the mass hold."""
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
    """An alternative without a logprob adds no mass, and its label may have the missing mass."""
    answer: list[Step] = [("Yes", log(0.5), {"Yes": log(0.5), "No": None})]
    yes, no = labels(answer, names=["yes", "no"])

    assert (yes["mass"], no["mass"], no["mass_upper"]) == (0.5, 0.0, 0.5)
    assert (yes["scored_alternatives"], yes["unscored_alternatives"]) == (1, 1)


def test_a_label_without_a_logprob_is_not_the_less_likely_one() -> None:
    """If True has no logprob, False at e^-16 is not chosen, and P(true) is null."""
    answer: list[Step] = [("True", None, {"True": None, "False": -16.0})]
    true, false = labels(answer, names=["True", "False"])
    _, alternatives = tables(answer)
    found = alternatives.select(ls.p_true(), ls.label_coverage(["True", "False"])).collect().row(0)

    assert (true["probability"], false["probability"]) == (None, None)
    assert (true["lower"], round(true["upper"], 6)) == (0.0, 1.0)
    assert ls.label_choices(ls.label_probabilities(*tables(answer), ["True", "False"])).collect()["label"][0] is None
    assert found == (None, None)


def test_a_label_of_no_mass_may_lack_its_logprob() -> None:
    """A missing logprob does not matter where the missing mass is too small to change the choice."""
    sentinel: list[Step] = [("True", log(0.995), {"True": log(0.995), "False": None})]
    other: list[Step] = [("True", log(0.5), {"True": log(0.5), "Maybe": None})]
    twice: list[Step] = [("True", None, {"True": log(0.5), "False": log(0.25)})]

    for answer, expected in ((sentinel, 1.0), (other, 1.0), (twice, 2 / 3)):
        assert labels(answer, names=["True", "False"])[0]["probability"] == pytest.approx(expected)
    for answer in (sentinel, other):
        assert tables(answer)[1].select(ls.p_true()).collect().item() == 1.0


def test_an_unscored_chosen_token_ends_the_path() -> None:
    """Its continuation is unknown; if nothing else is scored, all is null."""
    alone: list[Step] = [("Yes", None, {})]
    begun: list[Step] = [("Techn", None, {"Art": log(0.25)}), ("ology", -0.1, {})]

    assert [row["mass"] for row in labels(alone, names=["yes", "no"])] == [None, None]
    assert masses(begun, names=["Technology", "Art"]) == [(0.0, 0.0, 0.75), (0.25, 0.25, 1.0)]


def test_no_rows() -> None:
    """Empty tables give no rows."""
    assert ls.label_probabilities(*tables(), ["a", "b"]).collect().height == 0
