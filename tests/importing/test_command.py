"""`logprobs import`: exit codes and the summary."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from importing.recorded import recorded_body

from logprob_store import cli


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run `logprobs` in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["logprobs", "import", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_done_and_done_again(
    importing: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0 and a line that says what was added; the second time nothing is."""
    path = importing.jsonl("a.jsonl", recorded_body(0), recorded_body(1))
    codes = [call(monkeypatch, path, "--store", importing.store) for _ in range(2)]
    first, second = capsys.readouterr().out.splitlines()

    assert codes == [0, 0]
    assert "2 answers found: 2 added, 0 there already, 0 failed. 2 completions with 4 tokens are in" in first
    assert "2 answers found: 0 added, 2 there already, 0 failed." in second


def test_failures_are_counted_by_kind(
    importing: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3, and how many lines failed, by kind."""
    path = importing.jsonl("a.jsonl", recorded_body(0, logprobs=False), "oops", recorded_body(1), recorded_body(2))

    assert call(monkeypatch, path, "--store", importing.store, "--run", "r") == 3
    assert "2 added, 0 there already, 2 failed (1 bad_line, 1 no_logprobs)" in capsys.readouterr().out


def test_nothing_to_import(importing: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and one message that names the file."""
    path = importing.file("a.csv", "name,score\n")

    assert call(monkeypatch, path, "--store", importing.store) == 2
    assert "a.csv: line 1: is no JSON and no stream of events: 'name,score" in capsys.readouterr().err
    assert call(monkeypatch, path, "--store", importing.store, "--run", "a/b") == 2


def test_json(importing: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` prints one object for machines."""
    path = importing.jsonl("a.jsonl", recorded_body(0), "oops")

    assert call(monkeypatch, path, "--store", importing.store, "--json") == 3
    printed = json.loads(capsys.readouterr().out)
    assert (printed["files"], printed["records"], printed["added"], printed["problems"]) == (1, 2, 1, {"bad_line": 1})
