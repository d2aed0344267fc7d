"""Answers that are right, by a column kept with the prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from builders import run_demo

from logprob_store.analysis.judged_answers import judged_answers
from logprob_store.analysis.opened_store import open_store
from logprob_store.errors import InputError
from logprob_store.explorer.exploring import Exploring
from logprob_store.explorer.preparing import prepare
from logprob_store.explorer.questions import Questions
from logprob_store.explorer.selection import Selection
from logprob_store.explorer.verdicts import with_verdicts

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's store, whose prompts keep the capital of each country."""
    store = tmp_path_factory.mktemp("demo") / "store"
    run_demo(store)
    return store


def test_answers_are_judged_as_calibrate_judges_them(demo: Path) -> None:
    """The same answers are right."""
    judged = judged_answers(open_store(demo), expected="capital").sort("completion_id")["correct"]

    rows = with_verdicts(prepare(open_store(demo)), "capital").rows.sort("completion_id")

    named = judged.replace_strict({True: "right", False: "wrong"}).to_list()
    assert rows["verdict"].cast(str).to_list() == named
    assert 0 < judged.sum() < judged.len()


def test_rows_are_filtered_by_the_verdict(demo: Path) -> None:
    """Its values are counted like those of other columns."""
    questions = Questions(with_verdicts(prepare(open_store(demo)), "capital"))
    counts = dict(questions.values(Selection(), "verdict"))

    found = questions.numbers(Selection(values=(("verdict", ("wrong",)),)))

    assert len(found) == counts["wrong"]
    assert sum(counts.values()) == questions.rows.height


def test_a_failure_is_neither_right_nor_wrong_and_nothing_is_without_a_truth(store: Path) -> None:
    """Without --expected nothing is judged."""
    assert Questions(prepare(open_store(store))).values(Selection(), "verdict") == []


def test_sql_knows_the_verdict(demo: Path) -> None:
    """The table `scores` has it."""
    with Exploring(lambda: open_store(demo), expected="capital") as exploring:
        counts = dict(exploring.questions.values(Selection(), "verdict"))
        answer = exploring.sql.ask("select verdict, count(*) as n from scores group by verdict order by verdict")

    assert answer["rows"] == [["right", counts["right"]], ["wrong", counts["wrong"]]]


def test_a_column_that_was_not_kept_is_said(demo: Path) -> None:
    """With those that were."""
    with pytest.raises(InputError, match=r"--expected city: no such column was kept .* country, capital, continent"):
        with_verdicts(prepare(open_store(demo)), "city")
