"""What models, servers and prompts wrote, as commands print it: no terminal obeys it, no spreadsheet runs it."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import logprob_store as ls
from logprob_store.analysis.calibrators.expected_answers import with_truth_file
from logprob_store.cli.common import echo
from logprob_store.cli.logs import log_lines
from logprob_store.view.spreadsheet_text import without_formulas

if TYPE_CHECKING:
    from pathlib import Path

EVIL = "\x1b]52;c;aGk=\x07\x1b]8;;http://evil\x1b\\x\x9b31m\x7f\u202eevil\u2066\u200f\u2028[red]"
OBEYED = {chr(code) for code in (*range(0x0A), *range(0x0B, 0x20), *range(0x7F, 0xA0))} | set(
    "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029\u061c"
)


def import_answer(folder: Path, logprobs: Any, text: str, *, model: str, failure: str = "no") -> Any:
    """A store `out` with an answer whose one token and text are `text`, and a failure with these words."""
    token = {"token": text, "logprob": -0.5, "bytes": None}
    choice = {
        "index": 0,
        "finish_reason": model,
        "message": {"role": "assistant", "content": text},
        "logprobs": {"content": [token | {"top_logprobs": [token]}]},
    }
    answer = {"id": model, "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}
    answer["system_fingerprint"] = model
    refused = {"error": {"message": failure, "code": failure, "type": failure}}
    request = {"model": model, "messages": [{"role": "user", "content": text}], "logprobs": True}
    lines = [
        {"custom_id": f"{text}{n}", "request": request, "response": body} for n, body in enumerate([answer, refused])
    ]
    (folder / "a.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return logprobs("import", folder / "a.jsonl", "--store", folder / "out")


@pytest.fixture
def store(tmp_path: Path, logprobs: Any) -> Path:
    """A store whose text, token, model, fingerprint, ids and failure hold `EVIL`."""
    done = import_answer(tmp_path, logprobs, EVIL, model=EVIL, failure=EVIL)
    assert not OBEYED & set(done.out + done.err)
    return tmp_path / "out"


@pytest.mark.parametrize("words", ["status", "scores", "labels --labels a,b", "fields", "verify", "show 0"])
def test_no_command_prints_what_a_terminal_obeys(store: Path, logprobs: Any, words: str) -> None:
    """Each shows the text with symbols in place of the characters."""
    command, *rest = words.split()

    done = logprobs("-v", command, store, *rest)

    assert not OBEYED & set(done.out + done.err)


@pytest.mark.parametrize("words", ["status", "scores"])
def test_json_has_escapes_for_what_a_terminal_obeys(store: Path, logprobs: Any, words: str) -> None:
    """It is the same value all the same."""
    command, *rest = words.split()

    done = logprobs(command, store, *rest, "--json")

    assert not OBEYED & set(done.out)
    found = json.loads(done.out)
    if command == "scores":
        assert found[0]["text"] == EVIL


def test_all_that_is_printed_goes_through_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    """A message keeps its lines, JSON its value, and letters of all scripts stay."""
    echo(f"a\n{EVIL} \u05d0\u200d\u6771")
    echo({EVIL: "\u05d0\u200d\u6771"})

    out = capsys.readouterr().out
    assert not OBEYED & set(out)
    assert out.startswith("a\n\u241b]52")
    assert out.count("\u05d0\u200d\u6771") == 2


def test_log_lines_are_safe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes them: a library may log what a server sent."""
    monkeypatch.setattr(logging.root, "handlers", [])
    log_lines(verbose=False)

    logging.getLogger("any").warning("got %s", EVIL)

    err = capsys.readouterr().err
    assert "\u241b]52" in err
    assert not OBEYED & set(err)


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1", "'=1", "''=1"]


def test_cells_of_csv_are_no_formulas() -> None:
    """An apostrophe makes a text of them, as it does of one that has one already; other texts and numbers stay."""
    frame = pl.DataFrame({"=name": [*FORMULAS, "a=1", "'a", ""], "n": range(-6, 6)})

    escaped = without_formulas(frame)

    assert escaped["'=name"].to_list() == [*(f"'{text}" for text in FORMULAS), "a=1", "'a", ""]
    assert escaped["n"].to_list() == list(range(-6, 6))
    assert without_formulas(frame.select(pl.col("=name").cast(pl.Categorical)))["'=name"].to_list() == (
        escaped["'=name"].to_list()
    )


def test_csv_that_is_written_has_no_formulas(tmp_path: Path, logprobs: Any) -> None:
    """Whatever the model wrote."""
    import_answer(tmp_path, logprobs, "=1+1", model="m")

    logprobs("scores", tmp_path / "out", "-o", tmp_path / "scores.csv")
    logprobs("scores", tmp_path / "out", "-o", tmp_path / "scores.jsonl")

    assert pl.read_csv(tmp_path / "scores.csv")["text"].to_list() == ["'=1+1"]
    assert pl.read_ndjson(tmp_path / "scores.jsonl")["text"].to_list() == ["=1+1"]


@pytest.mark.parametrize("text", ["=1", "'=1", "-5", "\t=", "a"])
def test_ids_in_csv_are_found_again(tmp_path: Path, logprobs: Any, text: str) -> None:
    """A file of truths that was made from a written CSV names the prompts as they are."""
    import_answer(tmp_path, logprobs, text, model="m")
    logprobs("scores", tmp_path / "out", "-o", tmp_path / "scores.csv")
    written = pl.read_csv(tmp_path / "scores.csv", schema_overrides={"prompt_id": pl.String})
    written.select("prompt_id", right=True).write_csv(tmp_path / "truth.csv")

    judged = with_truth_file(ls.open_store(tmp_path / "out"), tmp_path / "truth.csv", "right")

    assert judged.select("prompt_id", "correct").row(0) == (f"{text}0", True)
