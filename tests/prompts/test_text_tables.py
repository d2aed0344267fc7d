"""CSV and JSON Lines files of prompts."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest
from prompts.parquet_files import read_all, scan_column, write_numbers

from logprob_store.errors import PromptsError
from logprob_store.prompts.columns import Columns
from logprob_store.prompts.ids import check_ids
from logprob_store.prompts.input_files import find_inputs, types_of_text_tables

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.prompts.input_files import InputFile


def written(path: Path, content: str | bytes) -> list[InputFile]:
    """The file, written and found."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return find_inputs(path.name, base=path.parent)


def values(inputs: list[InputFile], name: str) -> list[Any]:
    """All values of a column."""
    return [value for batch in scan_column(inputs, name) for value in batch]


def jsonl(*rows: Any) -> str:
    """The rows as JSON Lines."""
    return "".join(f"{json.dumps(row)}\n" for row in rows)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'id,text\nx,"a, ""b""\nc"\n'),
        ("a.CSV", '\ufeffid,text\r\nx,"a, ""b""\nc"\r\n'),
        ("a.csv", 'id;text\nx;"a, ""b""\nc"\n'),
        ("a.csv", 'id;"a, b";text\nx;1;"a, ""b""\nc"\n'),
        ("a.csv", '"id"\ttext\nx\t"a, ""b""\nc"\n'),
        ("a.tsv", 'id\ttext\nx\t"a, ""b""\nc"\n'),
        ("a.csv.gz", gzip.compress(b'id,text\nx,"a, ""b""\nc"\n', mtime=0)),
        ("a.jsonl", jsonl({"id": "x", "text": 'a, "b"\nc'})),
        ("a.ndjson", "\n" + jsonl({"id": "x", "text": 'a, "b"\nc'})),
        ("a.jsonl.gz", gzip.compress(jsonl({"id": "x", "text": 'a, "b"\nc'}).encode(), mtime=0)),
        ("a.csv", 'id,text\nx,"a, ""b""\nc"\n'.encode("utf-16")),
        ("a.jsonl", jsonl({"id": "x", "text": 'a, "b"\nc'}).encode("utf-16")),
        ("a.jsonl", b"\xef\xbb\xbf" + jsonl({"id": "x", "text": 'a, "b"\nc'}).encode()),
        ("[a]*.jsonl", jsonl({"id": "x", "text": 'a, "b"\nc'})),
    ],
)
def test_a_text_file_holds_prompts(tmp_path: Path, name: str, content: str | bytes) -> None:
    """CSV, with any of four separators, and JSON Lines, packed or not, are read as Parquet is."""
    (prompt,) = read_all(written(tmp_path / name, content), id="id", prompt="text")

    assert (prompt.id, prompt.messages) == ("x", [{"role": "user", "content": 'a, "b"\nc'}])


def test_a_file_is_known_by_its_own_bytes(tmp_path: Path) -> None:
    """Size and digest are those of the text, so that a changed text is found."""
    (before,) = written(tmp_path / "a.csv", "id,text\n1,a\n")
    (after,) = written(tmp_path / "a.csv", "id,text\n1,b\n")

    assert (before.rows, before.size) == (after.rows, after.size) == (1, 12)
    assert before.digest != after.digest


def test_what_was_found_is_what_is_read(tmp_path: Path) -> None:
    """A text that is written over after it was found changes nothing for the run that found it."""
    inputs = written(tmp_path / "a.csv", "id,text\n1,a\n")
    (tmp_path / "a.csv").write_text("id,text\n9,z\n")

    assert values(inputs, "text") == ["a"]


def test_values_of_csv_stay_as_they_are_written(tmp_path: Path) -> None:
    """A column is no text only where its type writes each value as the file does: leading zeros would be lost."""
    inputs = written(tmp_path / "a.csv", "zip,n,price,sure,word\n007,7,1.50,true,True\n12,-3,2,false,x\n13,,3,,y\n")

    assert types_of_text_tables(inputs) == {
        "zip": "String",
        "n": "Int64",
        "price": "String",
        "sure": "Boolean",
        "word": "String",
    }
    assert values(inputs, "zip") == ["007", "12", "13"]
    assert values(inputs, "n") == [7, -3, None]


def test_a_column_has_one_type_in_all_csv_files(tmp_path: Path) -> None:
    """What looks like integers in one file is text if it is in another; a file without values says nothing."""
    written(tmp_path / "a.csv", "id,n,text\n7,1,a\n")
    written(tmp_path / "b.csv", "id,n,text\nx8,2,b\n")
    written(tmp_path / "c.csv", "id,n,text\n9,,c\n")
    inputs = find_inputs("*.csv", base=tmp_path)

    assert values(inputs, "id") == ["7", "x8", "9"]
    assert values(inputs, "n") == [1, 2, None]


def test_empty_lines_are_no_prompts(tmp_path: Path) -> None:
    """A file may end with some."""
    assert values(written(tmp_path / "a.csv", "id,text\n1,a\n\n2,b\n\n\n"), "text") == ["a", "b"]


def test_nested_json_is_sent_as_it_stands(tmp_path: Path) -> None:
    """Fields that some rows lack, nulls and values of several types stay as they are in each row."""
    call = {"role": "assistant", "content": None, "tool_calls": []}
    rows = [
        {"messages": [{"role": "user", "content": "a"}], "params": {"stop": "x"}},
        {"messages": [{"role": "user", "content": "b"}, call], "params": {"stop": ["y"], "seed": 1}},
    ]

    first, second = read_all(written(tmp_path / "a.jsonl", jsonl(*rows)), messages="messages", params="params")

    assert [first.messages, second.messages] == [row["messages"] for row in rows]
    assert [first.params, second.params] == [row["params"] for row in rows]


def test_lists_of_texts_are_continuations(tmp_path: Path) -> None:
    """They are no JSON text."""
    inputs = written(tmp_path / "a.jsonl", jsonl({"text": "a", "ends": ["b", "c"]}))

    assert types_of_text_tables(inputs) == {"text": "String", "ends": "List(String)"}


def test_long_integers_keep_their_digits(tmp_path: Path) -> None:
    """Integers beyond 64 bits are text."""
    inputs = written(tmp_path / "a.jsonl", '{"id": 123456789012345678901234567890}\n')

    assert values(inputs, "id") == ["123456789012345678901234567890"]


def test_keys_that_only_later_lines_have_are_columns(tmp_path: Path) -> None:
    """All lines are looked at, not the first hundred."""
    rows = [{"text": "a"}] * 300 + [{"text": "b", "late": 1}]

    assert values(written(tmp_path / "a.jsonl", jsonl(*rows)), "late") == [None] * 300 + [1]


def test_repeated_ids_are_found_in_text(tmp_path: Path) -> None:
    """The checks are those of Parquet."""
    inputs = written(tmp_path / "a.csv", "id,text\n1,a\n1,b\n")

    with pytest.raises(PromptsError, match=r"occur more than once: '1' in rows 0, 1"):
        check_ids(inputs, Columns(id="id", prompt="text"))


def test_reading_goes_on_at_any_row(tmp_path: Path) -> None:
    """A run that is continued begins where it stopped."""
    inputs = written(tmp_path / "a.csv", "n\n" + "".join(f"{n}\n" for n in range(200_000)))

    batches = list(scan_column(inputs, "n", skip=150_000, limit=150_003))

    assert batches == [[150_000, 150_001, 150_002]]


def test_a_folder_of_text_files_holds_prompts(tmp_path: Path) -> None:
    """Folders that name partitions are columns there as well."""
    for day in (1, 2):
        written(tmp_path / f"in/day={day}/a.csv", "text\na\n")

    assert values(find_inputs("in", base=tmp_path), "day") == [1, 2]


def test_text_files_beside_parquet_are_passed_over(tmp_path: Path) -> None:
    """In a folder with Parquet, text may be the same prompts once more."""
    write_numbers(tmp_path / "in/a.parquet")
    written(tmp_path / "in/a.csv", "n\n1\n")

    assert [file.name for file in find_inputs("in", base=tmp_path)] == ["a.parquet"]


def test_parquet_under_the_name_of_text_is_parquet(tmp_path: Path) -> None:
    """The first bytes go before the name."""
    write_numbers(tmp_path / "a.csv", 3)

    assert values(find_inputs("a.csv", base=tmp_path), "n") == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", r"a\.csv is empty: write it again"),
        ("a.jsonl", "", r"a\.jsonl is empty: write it again"),
        (
            "a.csv",
            "id,text\n0,a\n1,a,b\n",
            "line 3 has 3 values, and the header 2.*quotes around",
        ),
        ("a.csv", b"id,text\n1,\xe9\n", r"cannot be read as CSV: line 2 is no UTF-8.*Save it as UTF-8"),
        ("a.csv.gz", gzip.compress(b"id,text\n1,\xe9\n", mtime=0), "line 2 is no UTF-8"),
        ("a.csv", 'id,text\n1,5" pipe\n2,b\n', 'line 2 may have a " within a value'),
        ("a.csv", 'id,text\n1,"a ""b"" c"\n2,ok\n3,x,EXTRA\n', "line 4 has 3 values, and the header 2"),
        ("a.csv", 'id,text\n1,say "hi" x\n2,ok\n3,x,EXTRA\n', "line 4 has 3 values, and the header 2"),
        ("a.csv", 'id,text\n1,"a\n""b"" c"\n2,ok\n3,"open\n4,d\n', 'line 5 opens a " that is never closed'),
        ("a.csv", 'id,text\n1,"a"\n2,"b" c\n', 'line 3 has text behind a " that closes a value'),
        ("a.tsv", 'id\ttext\n1\t"a ""b"" c"\n2\tx\tEXTRA\n', "line 3 has 3 values, and the header 2"),
        ("a.csv", "id,id\n1,2\n", r"a\.csv has column 'id' more than once: rename one of them"),
        ("a.jsonl", '{"a": true}\n{"a": 1}\n', r"as JSON Lines: cannot parse 'true'.*values of one type under a key"),
        (
            "a.jsonl",
            '{"a": 1}\nno\n',
            r"JSON Lines: line 2 is no JSON \(Expecting value\).*an object a line",
        ),
        ("a.jsonl", "[1]\n", r"cannot be read as JSON Lines: line 1 is no JSON object.*an object a line"),
    ],
)
def test_a_text_that_is_wrong_says_what_to_do(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    """The file, its first line that cannot be read, and how to write it."""
    with pytest.raises(PromptsError, match=message):
        written(tmp_path / name, content)


def test_no_copy_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy in Parquet has no name, so that a killed process leaves no prompts behind."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))

    inputs = written(tmp_path / "in/a.csv", "text\na\n")

    assert list(folder.iterdir()) == []
    assert values(inputs, "text") == ["a"]
