"""`logprobs labels` and `logprobs fields`, over an imported chat response whose answer is JSON."""

from __future__ import annotations

import json
from math import log
from typing import TYPE_CHECKING

import polars as pl
import pytest
from builders import chat_body, chat_token

import logprob_store as ls
from logprob_store import cli

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One answer: {"mood": "happy", "emoji": "💙"}, happy 1/2 and sad 1/4."""
    folder = tmp_path_factory.mktemp("answers")
    content = [
        chat_token('{"mood":', 0.0, {'{"mood":': 0.0}),
        chat_token(' "', 0.0, {' "': 0.0}),
        chat_token("happy", log(1 / 2), {"happy": log(1 / 2), "sad": log(1 / 4)}),
        chat_token('", "emoji": "', -0.1),
        chat_token("\\xf0\\x9f", log(1 / 4), raw=b"\xf0\x9f"),
        chat_token("\\x92\\x99", log(1 / 2), raw=b"\x92\x99"),
        chat_token('"}', 0.0),
    ]
    body = chat_body(content, '{"mood": "happy", "emoji": "💙"}')
    (folder / "answers.jsonl").write_text(json.dumps(body) + "\n", encoding="utf-8")
    ls.import_responses([folder / "answers.jsonl"], folder / "store")
    return folder / "store"


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run `logprobs` in this process and give its exit code."""
    monkeypatch.setattr("sys.argv", ["logprobs", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_labels_in_a_field(store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The likeliest label has 1/2 of the 3/4 that are known; the bounds include the unknown 1/4."""
    code = run(monkeypatch, "labels", store, "--labels", "happy,sad", "--field", "/mood", "--json")
    (row,) = json.loads(capsys.readouterr().out)

    assert code == 0
    assert (row["label"], row["position"]) == ("happy", 2)
    assert row["label_probability"] == pytest.approx(2 / 3)
    assert (row["label_lower"], row["label_upper"]) == pytest.approx((1 / 2, 3 / 4))
    assert row["coverage"] == pytest.approx(3 / 4)


def test_labels_each(store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With --each and --after, a table has a row for each label."""
    code = run(monkeypatch, "labels", store, "--labels", "happy, sad", "--after", '"mood": "', "--each")
    out = capsys.readouterr().out

    assert code == 0
    assert out.index("happy") < out.index("sad")
    assert "0.6667" in out


def test_labels_that_collide(store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Labels that differ only in case are an error; so are labels that the answer's tokens do not distinguish."""
    alike = run(monkeypatch, "labels", store, "--labels", "Happy,happy")
    first = capsys.readouterr().err
    shared = run(monkeypatch, "labels", store, "--labels", "happy,sadly,sad", "--field", "/mood")
    second = capsys.readouterr().err

    assert (alike, shared) == (2, 2)
    assert "--labels 'Happy,happy': labels 'Happy' and 'happy' collide" in first
    assert "the labels 'sadly' and 'sad' collide" in second


@pytest.mark.parametrize("suffix", ["parquet", "csv", "json", "jsonl"])
def test_fields_written(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """`-o` writes all rows in the format of the suffix; the emoji's two tokens are 1/4 x 1/2."""
    path = tmp_path / f"fields.{suffix}"
    read = {"parquet": pl.read_parquet, "csv": pl.read_csv, "json": pl.read_json, "jsonl": pl.read_ndjson}[suffix]

    assert run(monkeypatch, "fields", store, "-o", path) == 0
    table = read(path)
    assert table["path"].to_list() == ["/mood", "/emoji"]
    assert table["value"].to_list() == ['"happy"', '"💙"']
    assert table["joint_probability"].to_list() == pytest.approx([1 / 2, 1 / 8])


def test_fields_at_a_path(store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`--path` prints only the values at that path."""
    code = run(monkeypatch, "fields", store, "--path", "/emoji")
    out = capsys.readouterr().out

    assert code == 0
    assert "/emoji" in out
    assert "/mood" not in out


def test_fields_at_a_path_that_there_is_not(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path without its slash is an error that lists the known paths, not an empty table."""
    code = run(monkeypatch, "fields", store, "--path", "mood")

    assert code == 2
    assert "--path 'mood': no answer has a value there; there are '/emoji', '/mood'" in capsys.readouterr().err


def test_labels_at_a_path_that_is_none(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A field without its slash is an error, not a table of nulls."""
    code = run(monkeypatch, "labels", store, "--labels", "happy,sad", "--field", "mood")

    assert code == 2
    assert "it begins with a slash, as '/mood'" in capsys.readouterr().err


@pytest.mark.parametrize("place", [("--after", "Mood:"), ("--field", "/tone")])
def test_labels_at_a_place_that_no_answer_has(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: tuple[str, str]
) -> None:
    """A text or path that no answer has is an error, not a table of nulls."""
    code = run(monkeypatch, "labels", store, "--labels", "happy,sad", *place)

    assert code == 2
    assert f"{place[0]} {place[1]!r}: there is no such place in any of 1 answers" in capsys.readouterr().err
