"""A selection as a file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import polars as pl
import pytest
from builders import open_writer
from explorer.explored_store import add_part, answers_table, make_kept_store

from logprob_store.analysis.opened_store import open_store
from logprob_store.explorer import exporting
from logprob_store.explorer.exporting import export
from logprob_store.explorer.preparing import prepare
from logprob_store.explorer.questions import Questions
from logprob_store.explorer.selection import Selection

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.explorer.exporting import Format


def exported(store: Path, selection: Selection, kind: Format) -> pl.DataFrame:
    """The rows of a file that is downloaded."""
    content = io.BytesIO(b"".join(export(Questions(prepare(open_store(store))), selection, kind)))
    return pl.read_csv(content) if kind == "csv" else pl.read_parquet(content)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("at_once", [2, 100])
def test_the_selected_rows_are_in_the_file(
    store: Path, kind: Format, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is read at a time; a failure has its message for a text."""
    monkeypatch.setattr(exporting, "_ROWS_AT_ONCE", at_once)

    rows = exported(store, Selection(values=(("run", ("one",)),)), kind)

    assert rows.select("run", "prompt_id", "text", "error_type").rows() == [
        ("one", "p0", "Yes.", None),
        ("one", "p1", "No", None),
        ("one", "p2", "It Rains", None),
        ("one", "p3", "No answer in 60 s", "timeout"),
    ]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_an_empty_selection_is_a_file_without_rows(store: Path, kind: Format) -> None:
    """With its columns."""
    rows = exported(store, Selection(text="nowhere"), kind)

    assert rows.height == 0
    assert "confidence" in rows.columns


def test_long_texts_are_whole_and_formulas_are_texts(tmp_path: Path) -> None:
    """A list shows 200 characters; a spreadsheet would carry out what begins with =."""
    long = "=" + "x" * 1000
    with open_writer(tmp_path / "store") as writer:
        add_part(writer, answers_table({0: [(long, 0.5)]}), 0)

    assert exported(tmp_path / "store", Selection(), "csv")["text"].to_list() == ["'" + long]
    assert exported(tmp_path / "store", Selection(), "parquet")["text"].to_list() == [long]


def test_kept_columns_have_their_types(tmp_path: Path) -> None:
    """A number that the prompts had is a number in the file; failures have it too."""
    rows = exported(make_kept_store(tmp_path), Selection(), "parquet").sort("prompt_index")

    assert rows.schema["kept_stars"] == pl.Int64
    assert rows.select("kept_stars", "error_type").rows() == [(10, None), (0, None), (2, "timeout"), (100, None)]
