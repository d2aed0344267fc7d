"""What a store says of its tables and columns."""

from __future__ import annotations

import pydoc
from typing import TYPE_CHECKING

import pytest
from builders import run_demo

import logprob_store as ls
from logprob_store.store.column_meanings import MEANINGS, schemas

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> ls.Store:
    """A store of the demo, which keeps three columns of its prompts."""
    run_demo(tmp_path)
    return ls.open_store(tmp_path)


@pytest.mark.parametrize("table", list(schemas()))
def test_each_column_has_a_meaning(table: str) -> None:
    """In the order of the table's schema, and no other column has one."""
    assert list(MEANINGS[table].columns) == [name for name in schemas()[table] if name != "run"]


def test_a_description_has_every_column_of_every_table(store: ls.Store) -> None:
    """With the type that the store has it in."""
    frame = store.describe().frame

    for table in MEANINGS:
        expected = getattr(store, table).collect_schema().names()
        assert frame.filter(table=table)["column"].to_list() == expected
    assert frame.filter(table="tokens", column="logprob").row(0)[2:4] == ("Float64", "nats")
    assert frame["meaning"].null_count() == 0


def test_a_kept_column_says_where_it_is_from(store: ls.Store) -> None:
    """Its name and its meaning are the user's own; its type is the input's."""
    kept = store.describe("prompts").frame.filter(column="capital")

    assert kept.row(0)[2:] == ("String", None, "kept of the prompts, as the job's `prompts.keep` says")


def test_a_description_prints_as_text_that_fits(store: ls.Store) -> None:
    """Nothing is cut off, and no line is longer than 80 columns."""
    lines = str(store.describe()).splitlines()

    assert "  latency_s (Float64, seconds): how long the call took that succeeded" in lines
    assert max(map(len, lines)) <= 80


def test_a_description_is_one_line_in_a_shell(store: ls.Store) -> None:
    """As a store is."""
    shown = repr(store.describe("tokens"))

    assert "10 columns of tokens; print() shows them" in shown
    assert "\n" not in shown


def test_a_description_is_a_whole_table_in_a_notebook(store: ls.Store) -> None:
    """The last column of the last table is there, and no meaning is cut off."""
    html = store.describe()._repr_html_()

    assert "spent_usd" in html
    assert "…" not in html


def test_an_unknown_table_names_the_tables(store: ls.Store) -> None:
    """As a run that is not there names the runs."""
    with pytest.raises(ls.InputError, match=r"no table 'token' in a store; the tables are prompts, .*tokens"):
        store.describe("token")


def test_help_tells_the_columns(store: ls.Store) -> None:
    """`help(store)` and `help(ls.Store)` are made of the same sentences."""
    for thing in (store, ls.Store):
        assert "latency_s (Float64, seconds): how long the call took that succeeded" in pydoc.plain(
            pydoc.render_doc(thing)
        )


def test_the_newest_answers_are_one_line_in_a_shell(store: ls.Store) -> None:
    """Not the frames that they are chosen by."""
    assert repr(store.latest).startswith("<LatestAnswers ")
    assert "\n" not in repr(store.latest)
