"""`logprobs import`: exit codes and the summary."""

from __future__ import annotations

import json
from typing import Any

from importing.recorded import recorded_body


def test_done_and_done_again(importing: Any, logprobs: Any) -> None:
    """Exit code 0 and a line that says what was added; the second time nothing is."""
    path = importing.jsonl("a.jsonl", recorded_body(0), recorded_body(1))
    first, second = (logprobs("import", path, "--store", importing.store) for _ in range(2))

    assert (first.code, second.code) == (0, 0)
    assert "2 answers found: 2 added, 0 there already, 0 failed. 2 completions with 4 tokens in" in first.out
    assert "2 answers found: 0 added, 2 there already, 0 failed." in second.out


def test_failures_are_counted_by_kind(importing: Any, logprobs: Any) -> None:
    """Exit code 3, and how many lines failed, by kind."""
    path = importing.jsonl("a.jsonl", recorded_body(0, logprobs=False), "oops", recorded_body(1), recorded_body(2))

    code, out, _ = logprobs("import", path, "--store", importing.store, "--run", "r")

    assert code == 3
    assert "2 added, 0 there already, 2 failed (1 bad_line, 1 no_logprobs)" in out


def test_nothing_to_import(importing: Any, logprobs: Any) -> None:
    """Exit code 2, and one message that names the file."""
    path = importing.file("a.csv", "name,score\n")

    code, _, err = logprobs("import", path, "--store", importing.store)

    assert code == 2
    assert "a.csv: line 1: is no JSON and no stream of events: 'name,score" in err
    assert logprobs("import", path, "--store", importing.store, "--run", "a/b").code == 2


def test_json(importing: Any, logprobs: Any) -> None:
    """`--json` prints one object for machines."""
    path = importing.jsonl("a.jsonl", recorded_body(0), "oops")

    code, out, _ = logprobs("import", path, "--store", importing.store, "--json")
    printed = json.loads(out)

    assert code == 3
    assert (printed["files"], printed["records"], printed["added"], printed["problems"]) == (1, 2, 1, {"bad_line": 1})
