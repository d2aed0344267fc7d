"""Spellings of labels: which tokens match a label, and labels that cannot be told apart."""

from __future__ import annotations

from math import log
from typing import Any

import polars as pl
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


@pytest.mark.parametrize("token", ["HAYIR", "hay\u0131r", "Hayir", "hay\u0130r", "hayi\u0307r"])
def test_both_letters_i_of_turkish_are_one(token: str) -> None:
    """HAYIR is the capital form of hay\u0131r, and \u0130Y\u0130 that of iyi: case makes no difference."""
    assert Spellings(["evet", "hay\u0131r"]).match(token.encode()).spelled == 1
    assert Spellings(["evet", "hay\u0131r"], ["space"]).match(b"HAYIR").spelled is None


@pytest.mark.parametrize(
    ("behind", "mass"), [("\u20135", 0.0), ("-5", 0.0), ("\u2013 so", 0.8), (",0", 0.8), (",5", 0.0), (",000", 0.0)]
)
def test_ranges_and_fractions_behind_a_number(behind: str, mass: float) -> None:
    """4\u20135 is a range and 4,000 another number; 4,0 is 4 where a comma is the point."""
    answer = [step({"4": 0.8, "3": 0.2}), step({behind: 1.0})]

    assert masses(answer, names=["3", "4"])[1] == (mass,) * 3


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


@pytest.mark.parametrize(
    ("label", "text", "spelled"),
    [
        # one form of Unicode
        ("R\u00e9sum\u00e9", "Re\u0301sume\u0301", True),
        ("Re\u0301sume\u0301", "R\u00c9SUM\u00c9", True),
        ("cafe", "caf\u00e9", False),
        ("yes", "\uff39\uff25\uff33", True),
        ("yes", "ye\u200bs\u2060", True),
        ("\u2764", "\u2764\ufe0f", True),
        ("12", "1\u00b2", False),
        ("non-toxic", "non\u2011toxic", True),
        ("-1", "\u22121", True),
        ("stra\u00dfe", "STRASSE", True),
        ("\u03bb\u03cc\u03b3\u03bf\u03c2", "\u039b\u038c\u0393\u039f\u03a3", True),  # a final sigma
        # quotes and Markdown
        ("don't", "don\u2019t", True),
        ("yes", "\u201cyes\u201d", True),
        ("yes", "__Yes__", True),
        ("yes", "_Yes_ ", True),
        ("yes", "***Yes***", True),
        ("yes", "## Yes", True),
        ("yes", "\u300cYes\u300d", True),
        ("yes", "~~Yes~~", False),  # struck out
        # what goes on as another word, or number
        ("no", "nothing", False),
        ("no", "no-one", False),
        ("is", "isn't", False),
        ("is", "isn\u2019t", False),
        ("snake", "snake_case", False),
        ("4", "4.5", False),
        ("4", "4,5", False),
        ("4", "4th", False),
        ("4", "4.05", False),
        ("1", "1,000", False),
        ("1", "1.000", False),  # a thousand, in half of the world
        ("\u2764", "\u2764\ufe0f\u200d\U0001f525", False),  # a heart on fire
        # and what a sign ends
        ("4", "4/5", True),
        ("4", "4.0}", True),
        ("4", "4.00", True),
        ("1", "1\ufe0f\u20e3", True),  # on a key cap
        ("4", "4. So", True),
        ("A", "A) because", True),
        ("yes", "yes \u2014 it", True),
        ("C", "C++", True),
        ("\U0001f44d", "\U0001f44dGreat", True),
        # JSON escapes
        ("R\u00e9sum\u00e9", r"R\u00e9sum\u00e9", True),
        ("R\u00e9sum\u00e9", r"R\u00E9sume\u0301\"", True),
        ("\U0001f499", r"\ud83d\udc99", True),
        ("a/b", r"a\/b", True),
        ("yes", r"yes\nBecause", True),
        ("yes", r"\nyes", True),
        ("A", r"A\)", True),  # no escape: LaTeX
        ("r", r"R\u00e9sum\u00e9", False),
        # spellings of vocabularies
        ("yes", "\u0120yes", True),
        ("yes", "\u2581yes", True),
        ("yes", "\u010ayes\u0120because", True),
        ("no", "no\u2581thing", True),
        ("no", "no\u00c3\u00abl", False),
        ("not sure", "not\u0120sure", True),
        ("R\u00e9sum\u00e9", "R\u00c3\u00a9sum\u00c3\u00a9", True),
        ("yes", "<0x0A>yes", True),
        ("\u0120appun", "\u0120appun", True),  # Maltese for Japan
        # no HTML: its entities are letters, unless a spelling has them
        ("R&D", "R&amp;D", False),
    ],
)
def test_one_text_written_in_many_ways(label: str, text: str, spelled: bool) -> None:  # noqa: FBT001
    """A label is found however it is written, and not in another word or number."""
    assert (Spellings([label]).match(text.encode()).spelled == 0) is spelled


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        (b"R\xc3", {0}),  # half of an e acute
        (b"Re\xcc", {0}),  # half of an accent
        (b"R", {0}),
        (rb"R\u00", {0}),
        (rb"R\u00E9sum\u", {0}),
        (b"R\\", {0}),
        (rb"R\u01", set()),
        (b"\xed\x95", {1}),
        ("R\u00c3".encode(), {0}),  # half of it in the byte-level alphabet
        ("\u0120R".encode(), {0}),
    ],
)
def test_a_text_cut_within_a_character_is_a_beginning(text: bytes, possible: set[int]) -> None:
    """A token may end within a character, or within the escape of one."""
    assert Spellings(["R\u00e9sum\u00e9", "\ud55c\uad6d\uc5b4"]).match(text).possible == possible


@pytest.mark.parametrize("text", ["\u0120".encode(), b"\xe2\x80", b"\\", b"\\n", "\u00e2\u0122".encode()])
def test_what_may_lead_to_every_label_is_blank(text: bytes) -> None:
    """The sign of a vocabulary for a space, half of a curly quote, and an escape of a quote or a line break."""
    assert Spellings(["yes", "no"]).match(text).blank
    assert not Spellings(["yes", "no"], ["case"]).match(text).blank


def test_forms_are_kept_apart_where_that_is_asked_for() -> None:
    """Without "form" in `ignore`, full-width letters are other letters."""
    spellings = Spellings(["yes", "\uff59\uff45\uff53"], ["space", "case", "quotes"])

    assert (spellings.match(b"Yes").spelled, spellings.match("\uff39es".encode()).spelled) == (0, None)


def test_one_token_is_read_like_an_answer() -> None:
    """1/2 of " True" as a vocabulary spells it, 1/4 in full-width letters, against 1/4 of False with a full stop."""
    rows = {"token": ["\u0120True", "\uff34rue", "False."], "logprob": [log(1 / 2), log(1 / 4), log(1 / 4)]}

    assert pl.DataFrame(rows).select(ls.p_true()).item() == pytest.approx(0.75)


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
            "labels 'True' and 'true' collide: both are spelled 'true' when case, form, quotes, space is ignored",
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
    with pytest.raises(ValueError, match="ignore cases is none of space, case, quotes, form"):
        ls.label_probabilities(*tables(), ["a"], ignore=["cases"])  # type: ignore[list-item]


def test_a_blank_token_begins_no_single_label() -> None:
    """White space may lead to any answer, also where only one label is asked for."""
    rows = {"token": ["unknown", " ", "\u0120"], "logprob": [log(1 / 2), log(1 / 4), log(1 / 8)]}

    assert pl.DataFrame(rows).select(ls.label_mass("unknown")).item() == pytest.approx(1 / 2)
