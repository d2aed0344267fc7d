"""What is prepared of a store: rows with scores, kept in files that follow the run."""

from __future__ import annotations

import math
import stat
from typing import TYPE_CHECKING

import polars as pl
import pytest
from builders import open_writer
from explorer.explored_store import FIRST, add_part, answers_table, failures_table, make_kept_store, with_kept

from logprob_store.analysis.opened_store import open_store
from logprob_store.explorer.prepared_files import folder_in_store
from logprob_store.explorer.preparing import open_prepared, prepare
from logprob_store.store.removal import remove_run
from logprob_store.store.verifying import verify_store

if TYPE_CHECKING:
    from pathlib import Path


def said_of(store: Path) -> list[str]:
    """What is said while a store is prepared."""
    said: list[str] = []
    prepare(open_store(store), say=said.append)
    return said


def test_each_answer_and_each_open_failure_is_a_row(store: Path) -> None:
    """With its run; a failure has a class and no completion."""
    rows = prepare(open_store(store)).rows

    assert rows.select("run", "prompt_id", "error_type", pl.col("completion_id").is_null()).rows() == [
        ("one", "p0", None, False),
        ("one", "p1", None, False),
        ("one", "p2", None, False),
        ("one", "p3", "timeout", True),
        ("two", "p0", None, False),
        ("two", "p1", None, False),
        ("two", "p2", None, False),
    ]


def test_scores_are_those_of_the_store(store: Path) -> None:
    """A row has what `store.scores` says."""
    opened = open_store(store)
    keys = ["run", "completion_id"]
    names = ["confidence", "perplexity", "mean_entropy", "mean_margin", "mean_missing_mass"]

    prepared = prepare(opened).rows.filter(pl.col("completion_id").is_not_null())

    expected = opened.scores().select(*keys, *names).sort(keys).collect()
    assert prepared.select(pl.col("run").cast(pl.String), "completion_id", *names).sort(keys).equals(expected)
    # p0 of run one: the geometric mean of 0.9 and 0.8
    assert prepared["confidence"][0] == pytest.approx(math.sqrt(0.9 * 0.8))


def test_a_short_answer_is_a_label(store: Path) -> None:
    """Of one line and forty characters at most."""
    rows = prepare(open_store(store)).rows

    assert rows.filter(run="one")["label"].to_list() == ["Yes.", "No", "It Rains", None]


def test_a_run_that_goes_on_is_prepared_only_where_it_is_new(tmp_path: Path) -> None:
    """The second time only the part that was added is read, and what there was stays as it was."""
    store = tmp_path / "store"
    with open_writer(store) as writer:
        add_part(writer, answers_table({0: FIRST[0]}), 0)
        assert said_of(store) == ["run r: 1 of 1 answers prepared"]
        (store / "tokens" / "run=r" / "part-00000.parquet").unlink()
        add_part(writer, answers_table({1: FIRST[1]}), 1)

        said = said_of(store)
        rows = open_prepared(open_store(store)).rows

    assert said == ["run r: 2 of 2 answers prepared"]
    assert rows["prompt_id"].to_list() == ["p0", "p1"]
    assert rows["confidence"].to_list() == pytest.approx([math.sqrt(0.9 * 0.8), 0.5])


def test_nothing_is_prepared_twice(store: Path) -> None:
    """The second time nothing is said, and the files stay."""
    said_of(store)
    before = sorted(folder_in_store(store, "one").iterdir())

    assert said_of(store) == []
    assert sorted(folder_in_store(store, "one").iterdir()) == before


def test_a_part_that_changed_is_prepared_again(tmp_path: Path) -> None:
    """A run that was begun anew under the same name has parts of the same name."""
    store = tmp_path / "store"
    for answers in ({0: FIRST[0]}, {0: FIRST[1]}):
        with open_writer(store) as writer:
            add_part(writer, answers_table(answers), 0)
            writer.finish("finished")
        texts = prepare(open_store(store)).rows["text"].to_list()
        kept = folder_in_store(store, "r").rename(tmp_path / "kept")
        remove_run(store, "r")
        if not (store / "runs" / "run=r").exists():
            (store / "runs" / "run=r").mkdir(parents=True)
        kept.rename(folder_in_store(store, "r"))

    assert texts == ["No"]


@pytest.mark.parametrize("damage", [b"", b"{", b'{"version":0,"files":[]}', b'{"version":1,"files":7}'])
def test_a_damaged_index_is_made_again(store: Path, damage: bytes) -> None:
    """As if there were no files."""
    said_of(store)
    (folder_in_store(store, "one") / "index.json").write_bytes(damage)

    assert said_of(store) == ["run one: 3 of 3 answers prepared"]


def test_a_damaged_file_is_made_again(store: Path) -> None:
    """One that is no Arrow, or is gone."""
    said_of(store)
    for run in ("one", "two"):
        for path in folder_in_store(store, run).glob("completions-*.arrow"):
            path.write_bytes(b"no Arrow") if run == "one" else path.unlink()

    assert len(said_of(store)) == 2


def test_a_failure_is_gone_when_its_call_has_an_answer(tmp_path: Path) -> None:
    """Though the rows were prepared while it was open."""
    store = tmp_path / "store"
    with open_writer(store) as writer:
        add_part(writer, failures_table({0: ("timeout", "late")}), 0)
        assert prepare(open_store(store)).rows["error_type"].to_list() == ["timeout"]
        add_part(writer, answers_table({0: FIRST[0]}), 0)
        writer.finish("finished")

    assert prepare(open_store(store)).rows["error_type"].to_list() == [None]


def test_the_files_are_for_nobody_else(store: Path) -> None:
    """They have texts of answers."""
    said_of(store)

    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder_in_store(store, "one").iterdir()}
    assert modes == {0o600}


def test_a_store_that_was_explored_is_intact(store: Path) -> None:
    """The files disturb neither `verify` nor readers."""
    before = open_store(store).completions.collect()
    said_of(store)

    assert verify_store(store) == []
    assert open_store(store).completions.collect().equals(before)


def test_a_run_that_is_removed_takes_its_files_along(store: Path) -> None:
    """Nothing that was in its answers stays."""
    said_of(store)
    remove_run(store, "one")

    assert list(store.glob("**/run=one/**")) == []


def test_each_token_is_counted_where_it_was_written_and_almost(store: Path) -> None:
    """`~` was the second likeliest everywhere, and was written nowhere."""
    tokens = prepare(open_store(store)).tokens
    by_key = tokens.group_by("key").agg(pl.col("written", "almost").sum())
    counted = {key: (written, almost) for key, written, almost in by_key.iter_rows()}

    assert counted[b"No"] == (2, 0)
    assert counted[b"~"] == (0, 10)


def test_small_files_are_put_together(tmp_path: Path) -> None:
    """A run with many small parts has one pair of files."""
    store = tmp_path / "store"
    with open_writer(store) as writer:
        for index in FIRST:
            add_part(writer, answers_table({index: FIRST[index]}), index)
            said_of(store)

    assert len(list(folder_in_store(store, "r").glob("*.arrow"))) == 2


def test_values_of_json_answers_are_columns(tmp_path: Path) -> None:
    """Of objects at the top; an answer that is none has no value, and a run of plain texts no such column."""
    store = tmp_path / "store"
    answers = {0: [('{"mood": "good", "why": {"x": 1}}', 0.5)], 1: [('{"mood": "bad"}', 0.5)], 2: [("Sorry", 0.5)]}
    with open_writer(store) as writer:
        add_part(writer, answers_table(answers), 0, 1, 2)
        writer.finish("finished")
    with open_writer(store, "plain") as writer:
        add_part(writer, answers_table({0: FIRST[0]}), 0)
        writer.finish("finished")

    rows = prepare(open_store(store)).rows

    assert rows["field_mood"].to_list() == ["good", "bad", None, None]
    assert [name for name in rows.columns if name.startswith("field_")] == ["field_mood"]


def test_what_was_kept_is_known_of_failures_too(tmp_path: Path) -> None:
    """The question which shop fails has an answer."""
    rows = prepare(open_store(make_kept_store(tmp_path))).rows

    assert rows.sort("prompt_index").select("error_type", "kept_shop").rows() == [
        (None, "north"),
        (None, "south"),
        ("timeout", "south"),
        (None, "West"),
    ]


def test_kept_numbers_are_numbers(tmp_path: Path) -> None:
    """And stay so where another run kept a text under that name: then all are texts."""
    store = make_kept_store(tmp_path)
    alone = prepare(open_store(store)).rows["kept_stars"].sort().to_list()
    answers = answers_table({0: FIRST[0]})
    with open_writer(store, "other", job={"model.name": "m", "prompts.keep": ["stars"]}) as writer:
        add_part(writer, with_kept(answers, stars=["many"]), 0)
        writer.finish("finished")
    together = prepare(open_store(store)).rows["kept_stars"].to_list()

    assert alone == [0, 2, 10, 100]
    assert sorted(together) == ["0", "10", "100", "2", "many"]
