"""Queries in SQL: what they answer, and what they may not do."""

from __future__ import annotations

import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest
from explorer.explored_store import make_store

from logprob_store.analysis.opened_store import open_store
from logprob_store.analysis.sql_tables import ask_in_sql, check_reads_no_files
from logprob_store.errors import InputError
from logprob_store.explorer.preparing import prepare
from logprob_store.explorer.sql import Sql

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def asked_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that is prepared."""
    store = make_store(tmp_path_factory.mktemp("sql") / "store")
    prepare(open_store(store))
    return store


@pytest.fixture(scope="module")
def sql(asked_store: Path) -> Iterator[Sql]:
    """Both runs of the store."""
    with Sql(asked_store, ["one", "two"], folder=None) as asked:
        yield asked


def test_scores_and_tables_are_asked(sql: Sql) -> None:
    """Over all open runs, one query after another."""
    query = "select run, prompt_id, count(*) as n from scores join tokens using (run, completion_id) group by 1, 2"

    answer = sql.ask(f"{query} order by 1, 2")
    again = sql.ask("select count(*) as failures from failures")

    assert answer == {
        "columns": ["run", "prompt_id", "n"],
        "kinds": ["text", "text", "number"],
        "rows": [
            ["one", "p0", 2],
            ["one", "p1", 1],
            ["one", "p2", 2],
            ["two", "p0", 2],
            ["two", "p1", 1],
            ["two", "p2", 2],
        ],
        "more": False,
    }
    assert again["rows"] == [[1]]


@pytest.mark.parametrize(
    "query",
    [
        "select * from read_csv('{secret}')",
        "select * from READ_CSV ('{secret}', has_header => false)",
        "select * from \"read_csv\"('{secret}')",
        "select * from read_csv/**/('{secret}')",
        "with x as (select * from read_csv('{secret}')) select * from x",
        "select * from scores union all select * from read_csv('{secret}')",
        "select (select count(*) from read_csv('{secret}')) as n",
        "explain select * from read_csv('{secret}')",
        "select * from read_parquet('{secret}')",
        "select * from read_ipc('{secret}')",
        "select * from read_json('{secret}')",
        "select * from scan_csv('{secret}')",
        "select * from '{secret}'",
        'select * from "{secret}"',
        "select * from glob('{secret}')",
    ],
)
def test_no_other_file_is_read(sql: Sql, tmp_path: Path, query: str) -> None:
    """By no function, however it is written, and by no name."""
    secret = tmp_path / "secret.csv"
    secret.write_text("password\nhunter2\n", encoding="utf-8")

    with pytest.raises(InputError) as raised:
        sql.ask(query.format(secret=secret))

    assert "hunter2" not in str(raised.value)


def test_polars_reads_files_by_no_other_function(tmp_path: Path) -> None:
    """Of the functions that its own message or its documentation names, none goes by another name than read_..."""
    path = tmp_path / "file.csv"
    path.write_text("a\n1\n", encoding="utf-8")
    words = [
        "csv",
        "parquet",
        "ipc",
        "json",
        "ndjson",
        "delta",
        "iceberg",
        "excel",
        "avro",
        "database",
        "lines",
        "text",
    ]
    names = [f"{verb}{word}" for word in words for verb in ("", "scan_", "from_", "load_", "open_", "import_")]
    for name in [*names, "glob", "file", "table", "url", "s3", "load_file"]:
        check_reads_no_files(name)
        with pytest.raises(InputError):
            ask_in_sql(f"select * from {name}('{path}')", {})  # noqa: S608  no values of others


@pytest.mark.parametrize(
    "query",
    [
        "delete from scores",
        "drop table scores",
        "create table x as select * from scores",
        "truncate table scores",
        "insert into scores values (1)",
        "copy scores to '{folder}/x'",
        "select 1; drop table scores",
    ],
)
def test_nothing_is_changed(sql: Sql, asked_store: Path, tmp_path: Path, query: str) -> None:
    """Whatever a query begins with."""
    before = sorted(asked_store.rglob("*"))

    with pytest.raises(InputError):
        sql.ask(query.format(folder=tmp_path))

    assert sorted(asked_store.rglob("*")) == before


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("select nothing from scores", 'unable to find column "nothing"'),
        ("selekt", "a query begins with SELECT or WITH"),
        ("select * from nowhere", "relation 'nowhere' was not found"),
        ("", "a query begins with SELECT or WITH"),
        ("select '" + "x" * 20_001 + "'", "the query is longer than 20,000 characters"),
    ],
)
def test_a_query_that_cannot_be_answered_says_why(sql: Sql, query: str, said: str) -> None:
    """With the names of the tables."""
    with pytest.raises(InputError) as raised:
        sql.ask(query)

    assert str(raised.value).startswith(said)


CROSS = " cross join ".join(f"tokens t{number}" for number in range(24))


def test_a_slow_query_is_ended(asked_store: Path) -> None:
    """And the next one is answered."""
    with Sql(asked_store, ["one"], folder=None, seconds=0.5) as sql:
        began = time.monotonic()
        with pytest.raises(InputError, match=r"took longer than 0\.5 seconds|too much memory"):
            sql.ask(f"select count(*) as n from {CROSS} where t0.logprob + t23.logprob < t5.logprob")  # noqa: S608
        took = time.monotonic() - began

        assert took < 30
        assert sql.ask("select 1 as one from runs limit 1")["rows"] == [[1]]


def test_a_query_that_takes_too_much_memory_is_ended(asked_store: Path) -> None:
    """The explorer itself goes on."""
    query = f"select * from {CROSS} order by t3.logprob + t23.logprob"  # noqa: S608
    with Sql(asked_store, ["one", "two"], folder=None, seconds=60, memory=300_000_000) as sql:
        with pytest.raises(InputError, match="too much memory"):
            sql.ask(query)

        assert sql.ask("select 1 as one from runs limit 1")["rows"] == [[1]]


def test_a_process_that_cannot_answer_says_why(asked_store: Path) -> None:
    """In the last words of its own error."""
    with (
        Sql(asked_store.parent / "gone", ["one"], folder=None) as sql,
        pytest.raises(InputError, match=r"its process ended with 1 \(.*no store at .*gone"),
    ):
        sql.ask("select 1 as one from runs")


def test_a_long_answer_is_cut(sql: Sql) -> None:
    """To a thousand rows, and it is said that there are more."""
    answer = sql.ask("select a.token from tokens a cross join tokens b cross join tokens c cross join tokens d")

    assert (len(answer["rows"]), answer["more"]) == (1000, True)


def test_values_without_a_word_in_json_are_texts(sql: Sql) -> None:
    """Infinity is a text, bytes are written as Python writes them, nothing is null."""
    answer = sql.ask("select 1e308 * 10 as inf, bytes, null as nothing from tokens where token = 'No' limit 1")

    assert answer["rows"] == [["inf", "b'No'", None]]


ENDLESS = "with recursive t as (select 1 as n union all select n + 1 from t) select count(*) from t"
NOW = "select count(*) as n from failures"


def asked_beside(sql: Sql, query: str) -> tuple[threading.Thread, list[str]]:
    """A query under way in a thread, and the errors that it ends with."""
    errors: list[str] = []

    def ask() -> None:
        try:
            sql.ask(query)
        except InputError as error:
            errors.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.5)
    return thread, errors


def test_a_newer_query_ends_the_one_before(sql: Sql) -> None:
    """It is answered itself, and the one before says why it is not."""
    slow, errors = asked_beside(sql, ENDLESS)
    answer = sql.ask(NOW)
    slow.join(timeout=3)

    assert answer["rows"] == [[1]]
    assert errors == ["a newer query was asked before this one was answered; one is answered at a time"]


def test_closing_ends_a_query_at_once(asked_store: Path) -> None:
    """Nobody waits ten seconds for the explorer to end."""
    with Sql(asked_store, ["one"], folder=None) as sql:
        slow, errors = asked_beside(sql, ENDLESS)
    slow.join(timeout=3)

    assert errors == ["the explorer was ended, or its runs were opened anew"]


def test_a_process_answers_query_after_query(asked_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one, also behind a slip, does not wait for a process to start."""
    with Sql(asked_store, ["one"], folder=None) as sql:
        sql.ask(NOW)
        with pytest.raises(InputError):
            sql.ask("select nothing from scores")
        monkeypatch.setattr(subprocess, "Popen", None)

        assert sql.ask(NOW)["rows"] == [[1]]


def test_an_error_ends_where_polars_shows_its_plan(sql: Sql) -> None:
    """What follows is about how polars took the query apart."""
    with pytest.raises(InputError) as raised:
        sql.ask("select nothing from (select run from scores limit 3) as x")

    assert "context stack" not in str(raised.value)
    assert "[1]" not in str(raised.value)
