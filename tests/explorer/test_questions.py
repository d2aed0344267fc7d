"""Filters, orders, pages and histograms, held against plain polars."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from explorer.explored_store import make_kept_store
from hypothesis import given
from hypothesis import strategies as st

from logprob_store.analysis.opened_store import Store, open_store
from logprob_store.errors import InputError
from logprob_store.explorer.preparing import SCORES, Prepared, prepare
from logprob_store.explorer.questions import BINS, Questions
from logprob_store.explorer.selection import Page, Selection, read_page

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ["", "Yes", "yes it is", "NO", "ÄÖ", "a.b*c", "İstanbul", "ß", "x\ny", "%", "\\"]
RUNS = ["one", "two"]


def rows_of(listed: list[dict[str, Any]]) -> pl.DataFrame:
    """Prepared rows with these columns; every score that is not given is null."""
    named = {"run": pl.Enum(RUNS), "text": pl.String, "error_type": pl.String, "confidence": pl.Float64}
    frame = pl.DataFrame(listed, schema={**named, "perplexity": pl.Float64})
    texts = ("model", "label", "finish_reason", "prompt_id")
    whole = ("completion_id", "prompt_index", "sample_index", "choice_index")
    missing = [pl.lit(None, pl.String).alias(name) for name in texts]
    missing += [pl.lit(None, pl.Float64).alias(name) for name in SCORES if name not in frame.columns]
    numbers = [pl.int_range(pl.len()).alias(name) for name in whole]
    return frame.with_columns(*missing, *numbers, search=pl.col("text").str.to_lowercase())


def questions_over(listed: list[dict[str, Any]]) -> Questions:
    """Questions over rows of no store."""
    return Questions(Prepared(Store.__new__(Store), rows_of(listed), pl.DataFrame()))


SCORE = st.none() | st.floats(0, 1) | st.just(math.nan)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "run": st.sampled_from(RUNS),
            "text": st.sampled_from(TEXTS),
            "error_type": st.sampled_from([None, None, "timeout"]),
            "confidence": SCORE,
            "perplexity": st.none() | st.floats(1, 50) | st.just(math.inf),
        }
    ),
    max_size=30,
)
SELECTIONS = st.builds(
    Selection,
    values=st.sampled_from([(), (("run", ("one",)),), (("run", ("one", "two")), ("error_type", ("timeout",)))]),
    ranges=st.sampled_from([(), (("confidence", 0.3, None),), (("confidence", 0.2, 0.7), ("perplexity", None, 9.0))]),
    text=st.sampled_from(["", "yes", "No", "äö", ".", "*", "i", "\\", "%", "SS"]),
    kind=st.sampled_from(["all", "answered", "failed"]),
)


def passes(row: dict[str, Any], selection: Selection) -> bool:
    """Whether a row is selected, said without polars."""
    for column, wanted in selection.values:
        if row[column] not in wanted:
            return False
    for score, least, most in selection.ranges:
        value = row[score]
        if value is None or (math.isnan(value) and most is not None):
            return False
        if (least is not None and not value >= least and not math.isnan(value)) or (most is not None and value > most):
            return False
    if selection.kind != "all" and (row["error_type"] is not None) != (selection.kind == "failed"):
        return False
    return selection.text.lower() in row["text"].lower()


@given(ROWS, SELECTIONS)
def test_a_filter_lets_the_right_rows_through(listed: list[dict[str, Any]], selection: Selection) -> None:
    """All parts of it hold, capital letters do not matter, and signs of patterns mean themselves."""
    found = questions_over(listed).numbers(selection).tolist()

    assert found == [number for number, row in enumerate(listed) if passes(row, selection)]


@given(ROWS, SELECTIONS, st.sampled_from(["asc", "desc"]), st.integers(1, 4), st.integers(1, 9))
def test_a_page_is_a_slice_of_the_sorted_rows(
    listed: list[dict[str, Any]], selection: Selection, order: str, number: int, size: int
) -> None:
    """By a score both ways, and the rows without it last."""
    questions = questions_over(listed)
    descending = order == "desc"
    answer = questions.page(Page(selection, "confidence", descending, number, size))

    rows = [listed[at] for at in questions.numbers(selection)]
    known = [row["confidence"] for row in rows if row["confidence"] is not None and not math.isnan(row["confidence"])]
    expected: list[float | None] = [*sorted(known, reverse=descending), *[None] * (len(rows) - len(known))]
    assert [row["confidence"] for row in answer["rows"]] == expected[(number - 1) * size : number * size]
    assert (answer["total"], answer["pages"]) == (len(rows), max(1, math.ceil(len(rows) / size)))


@pytest.mark.parametrize(
    ("sort", "order", "texts"),
    [
        ("confidence", "asc", ["b", "a", "d", "c"]),
        ("confidence", "desc", ["d", "a", "b", "c"]),
        ("as asked", "asc", ["a", "b", "c", "d"]),
        ("as asked", "desc", ["d", "c", "b", "a"]),
    ],
)
def test_rows_stand_in_the_order_that_is_named(sort: str, order: str, texts: list[str]) -> None:
    """A row without the score is the last in both directions."""
    confidences = {"a": 0.5, "b": 0.1, "c": None, "d": 0.9}
    rest = {"run": "one", "error_type": None, "perplexity": None}
    questions = questions_over([{"text": text, "confidence": value, **rest} for text, value in confidences.items()])

    answer = questions.page(read_page([("sort", sort), ("order", order)], questions.rows))

    assert [row["text"] for row in answer["rows"]] == texts


@given(ROWS, SELECTIONS, st.sampled_from(["confidence", "perplexity"]))
def test_a_histogram_counts_each_row_once(listed: list[dict[str, Any]], selection: Selection, score: str) -> None:
    """In a bin, or as one without the score; infinity is in the last bin."""
    questions = questions_over(listed)
    bins = questions.histogram(selection, score)

    values = [listed[at][score] for at in questions.numbers(selection)]
    known = [value for value in values if value is not None and not math.isnan(value)]
    step = (bins["high"] - bins["low"]) / BINS
    assert (sum(bins["bins"]), bins["missing"]) == (len(known), len(values) - len(known))
    for place, count in enumerate(bins["bins"]):
        low, high = bins["low"] + place * step, bins["low"] + (place + 1) * step
        slack = 1e-9 * max(1.0, abs(high))
        surely = [value for value in known if low + slack < value < high - slack]
        assert count >= len(surely)


def test_values_are_counted_under_the_filter() -> None:
    """The most frequent first."""
    listed = [
        {"run": "two", "text": "a", "error_type": None, "confidence": 0.5, "perplexity": None},
        {"run": "one", "text": "a", "error_type": None, "confidence": 0.9, "perplexity": None},
        {"run": "two", "text": "b", "error_type": None, "confidence": 0.9, "perplexity": None},
        {"run": "one", "text": "b", "error_type": None, "confidence": 0.9, "perplexity": None},
        {"run": "one", "text": "b", "error_type": None, "confidence": 0.1, "perplexity": None},
    ]

    found = questions_over(listed).values(Selection(ranges=(("confidence", 0.5, None),)), "run")

    assert found == [("one", 2), ("two", 2)]


@pytest.mark.parametrize(
    ("pairs", "problem"),
    [
        ([("colour", "red")], "colour: there is no such filter"),
        ([("confidence.from", "low")], "confidence.from=low: write a number"),
        ([("confidence.to", "nan")], "confidence.to=nan: write a number"),
        ([("sort", "text")], "sort=text: rows can be sorted by as asked, "),
        ([("order", "up")], "order=up: write asc or desc"),
        ([("page", "0")], "page=0: write a whole number from 1"),
        ([("page", "٣")], "page=٣: write a whole number"),
        ([("size", "201")], "size=201: write a whole number from 1 to 200"),
        ([("kind", "both")], "kind=both: write all, answered or failed"),
        ([("text", "x" * 1001)], "text: search for 1000 characters at most"),
        ([("kept_land", "Togo")], "kept_land: there is no such filter"),
    ],
)
def test_a_wrong_address_is_said_in_words(pairs: list[tuple[str, str]], problem: str) -> None:
    """What is wrong, and what could stand there."""
    with pytest.raises(InputError) as raised:
        read_page(pairs, rows_of([]))

    assert str(raised.value).startswith(problem)


def test_a_column_of_another_kind_has_no_values() -> None:
    """The error lists those that have."""
    with pytest.raises(InputError, match="search: there is no such column of words; there are error_type"):
        questions_over([]).values(Selection(), "search")


def test_the_overview_says_what_is_there(store: Path) -> None:
    """Runs with their answers and failures, and the scores that a row has."""
    from logprob_store.analysis.opened_store import open_store
    from logprob_store.explorer.preparing import prepare

    overview = Questions(prepare(open_store(store))).overview

    assert [(run["run"], run["answers"], run["failures"]) for run in overview["runs"]] == [("one", 3, 1), ("two", 3, 0)]
    assert overview["newest"] == "two"
    assert "confidence" in overview["scores"]
    assert "label_probability" not in overview["scores"]


def kept_questions(folder: Path) -> Questions:
    """Questions over `make_kept_store`'s."""
    return Questions(prepare(open_store(make_kept_store(folder))))


def test_kept_numbers_bound_rows_and_order_them(tmp_path: Path) -> None:
    """As scores do: 10 comes behind 2."""
    questions = kept_questions(tmp_path)
    page = read_page([("kept_stars.from", "1"), ("sort", "kept_stars")], questions.rows)

    assert [row["prompt_id"] for row in questions.page(page)["rows"]] == ["p2", "p0", "p3"]
    assert "kept_stars" in questions.overview["scores"]
    assert sum(questions.histogram(Selection(), "kept_stars")["bins"]) == 4


def test_kept_numbers_are_listed_in_their_order(tmp_path: Path) -> None:
    """And one of them is filtered by as it is listed."""
    questions = kept_questions(tmp_path)
    page = read_page([("kept_stars", "10")], questions.rows)

    assert questions.values(Selection(), "kept_stars") == [("0", 1), ("2", 1), ("10", 1), ("100", 1)]
    assert [row["prompt_id"] for row in questions.page(page)["rows"]] == ["p0"]


@pytest.mark.parametrize(
    ("column", "contains", "values"),
    [
        ("kept_shop", "TH", [("south", 2), ("north", 1)]),
        ("kept_shop", "w", [("West", 1)]),
        ("kept_shop", ".", []),
        ("kept_stars", "0", [("0", 1), ("10", 1), ("100", 1)]),
        ("run", "ep", [("kept", 4)]),
    ],
)
def test_values_beyond_the_list_are_found_by_what_they_contain(
    tmp_path: Path, column: str, contains: str, values: list[tuple[str, int]]
) -> None:
    """Capital and small letters are alike; the overview says how many values there are."""
    questions = kept_questions(tmp_path)

    assert questions.values(Selection(), column, contains) == values
    assert questions.overview["values"] == {
        "run": 1,
        "model": 2,
        "label": 1,
        "verdict": 0,
        "finish_reason": 1,
        "error_type": 1,
        "kept_shop": 3,
        "kept_stars": 4,
    }
