"""`logprobs labels` and `logprobs fields`, over an imported chat response whose answer is JSON."""

from __future__ import annotations

import json
from math import exp, log
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from builders import chat_body, chat_token

import logprob_store as ls

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


def test_labels_in_a_field(store: Path, logprobs: Any) -> None:
    """The likeliest label has 1/2 of the 3/4 that are known; the bounds include the unknown 1/4.

    Of "happy", e^-0.1 is shown to end at the quote. Its lower bound is 1/2 e^-0.1 of that, 1/4 for "sad" and the 1/4.
    """
    code, out, _ = logprobs("labels", store, "--labels", "happy,sad", "--field", "/mood", "--json")
    (row,) = json.loads(out)

    assert code == 0
    assert (row["label"], row["position"]) == ("happy", 2)
    assert row["label_probability"] == pytest.approx(2 / 3)
    assert (row["label_lower"], row["label_upper"]) == pytest.approx((exp(-0.1) / (exp(-0.1) + 1), 3 / 4))
    assert row["coverage"] == pytest.approx(3 / 4)


def test_labels_each(store: Path, logprobs: Any) -> None:
    """With --each and --after, a table has a row for each label."""
    code, out, _ = logprobs("labels", store, "--labels", "happy, sad", "--after", '"mood": "', "--each")

    assert code == 0
    assert out.index("happy") < out.index("sad")
    assert "0.6667" in out


def test_labels_that_collide(store: Path, logprobs: Any) -> None:
    """Labels that differ only in case are an error; so are labels that the answer's tokens do not distinguish."""
    first = logprobs("labels", store, "--labels", "Happy,happy")
    second = logprobs("labels", store, "--labels", "happy,sadly,sad", "--field", "/mood")

    assert (first.code, second.code) == (2, 2)
    assert "--labels 'Happy,happy': labels 'Happy' and 'happy' collide" in first.err
    assert "the labels 'sadly' and 'sad' collide" in second.err


@pytest.mark.parametrize("suffix", ["parquet", "csv", "json", "jsonl"])
def test_fields_written(store: Path, tmp_path: Path, logprobs: Any, suffix: str) -> None:
    """`-o` writes all rows in the format of the suffix; the emoji's two tokens are 1/4 x 1/2."""
    path = tmp_path / f"fields.{suffix}"
    read = {"parquet": pl.read_parquet, "csv": pl.read_csv, "json": pl.read_json, "jsonl": pl.read_ndjson}[suffix]

    assert logprobs("fields", store, "-o", path).code == 0
    table = read(path)
    assert table["path"].to_list() == ["/mood", "/emoji"]
    assert table["value"].to_list() == ['"happy"', '"💙"']
    assert table["joint_probability"].to_list() == pytest.approx([1 / 2, 1 / 8])


def test_fields_at_a_path(store: Path, logprobs: Any) -> None:
    """`--path` prints only the values at that path."""
    code, out, _ = logprobs("fields", store, "--path", "/emoji")

    assert code == 0
    assert "/emoji" in out
    assert "/mood" not in out


def test_fields_at_an_unknown_path(store: Path, logprobs: Any) -> None:
    """A path without its slash is an error that lists the known paths, not an empty table."""
    code, _, err = logprobs("fields", store, "--path", "mood")

    assert code == 2
    assert "--path 'mood': no answer has a value there; there are '/emoji', '/mood'" in err


def test_labels_at_a_malformed_path(store: Path, logprobs: Any) -> None:
    """A field without its slash is an error, not a table of nulls."""
    code, _, err = logprobs("labels", store, "--labels", "happy,sad", "--field", "mood")

    assert code == 2
    assert "it begins with a slash, as '/mood'" in err


@pytest.mark.parametrize("place", [("--after", "Mood:"), ("--field", "/tone")])
def test_labels_at_a_place_that_no_answer_has(store: Path, logprobs: Any, place: tuple[str, str]) -> None:
    """A text or path that no answer has is an error, not a table of nulls."""
    code, _, err = logprobs("labels", store, "--labels", "happy,sad", *place)

    assert code == 2
    assert f"{place[0]} {place[1]!r}: there is no such place in any of 1 answer" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--labels", "happy"), "--labels 'happy' is one label"),
        (("--labels", "happy;sad"), 'name several, with commas between, as "Yes,No"'),
        (("--labels", "happy,sad", "--field", "mood"), "--field 'mood': field 'mood' is no RFC 6901 path"),
        (("--labels", "spam,ham"), "none of 1 answer has one of the labels spam, ham. Answers begin so: '{\"mood"),
        (("--labels", "happy,sad", "--after", "X:"), "--after 'X:': there is no such place in any of 1 answer"),
    ],
)
def test_labels_that_say_nothing_are_an_error(store: Path, logprobs: Any, words: tuple[str, ...], said: str) -> None:
    """Exit code 2, and what to do; a table of dashes would tell nobody."""
    code, _, err = logprobs("labels", store, *words)

    assert code == 2
    assert said in err


def test_a_low_coverage_is_said(store: Path, logprobs: Any) -> None:
    """At the emoji nothing but itself is known, at 1/4: what the labels share says little."""
    _, out, _ = logprobs("labels", store, "--labels", "💙,💚", "--field", "/emoji")

    assert "1 of 1 answer has a coverage below 0.5" in out


def test_fields_of_answers_without_json(tmp_path: Path, logprobs: Any) -> None:
    """No file of error rows: one sentence, and exit code 2."""
    body = chat_body([chat_token("Yes", -0.1)], "Yes")
    (tmp_path / "answers.jsonl").write_text(json.dumps(body) + "\n", encoding="utf-8")
    ls.import_responses([tmp_path / "answers.jsonl"], tmp_path / "store")

    code, _, err = logprobs("fields", tmp_path / "store", "-o", tmp_path / "f.csv")

    assert (code, (tmp_path / "f.csv").exists()) == (2, False)
    assert "none of 1 answer is JSON" in err


def test_a_narrow_table_of_fields_keeps_path_and_confidence(
    store: Path, logprobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The value and the counts go first."""
    monkeypatch.setenv("COLUMNS", "40")
    shown = logprobs("fields", store).out

    header, left_out = shown.splitlines()[1], shown[shown.index("not shown") :]
    assert header.split() == ["prompt_id", "path", "confidence"]
    assert "joint_probability" in left_out
