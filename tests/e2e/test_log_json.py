"""`--log-json` from outside: each line of standard error is JSON, and none holds a secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from logprob_store.events import EVENTS

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

KEY = "-".join(["sk", "proj", "Qm4xV8cR2tN6wZ0bH5jL9sD3"])  # noqa: FLY002  in one piece, scanners take it for a key

ALWAYS = {"ts", "level", "event", "message"}


def events(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Every line of standard error, parsed, with its fields checked against the list of events."""
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    for line in lines:
        expected = {"logger"} if line["event"] == "log" else set(EVENTS[line["event"]].fields)
        assert set(line) - ALWAYS - {"traceback"} == expected, line
    assert done.stderr.isascii()
    assert "\x1b" not in done.stderr
    return lines


def only(lines: list[dict[str, Any]], event: str) -> dict[str, Any]:
    """The one line of this event."""
    (line,) = [line for line in lines if line["event"] == event]
    return line


@pytest.mark.slow
def test_a_refusal_that_names_a_time_pauses_the_run(workplace: Any, serve: Any) -> None:
    """The event `paused` has the seconds and the reason; a refusal with requests left pauses its own call only."""
    server = serve("--when", "word-1 =429:retry-after=1,ok")

    done = workplace.run("run", workplace.job(server.url, prompts=3), "--run", "r", "--log-json")

    paused = only([json.loads(line) for line in done.stderr.splitlines()], "paused")
    assert (paused["seconds"], paused["why"]) == (1, "retry_after")


@pytest.mark.slow
def test_a_run_with_faults(workplace: Any, serve: Any) -> None:
    """Start, attempts, failures, pauses, parts and end are logged, agree with the summary, and never hold the key."""
    server = serve(
        *(
            "--when",
            "word-3 =500,reset,ok",
            "--when",
            "word-5 =400",
            "--when",
            "word-7 =429:retry-after=1,ok",
        ),
        *("--when", "word-8 =malformed,ok"),
        *("--requests-per-minute", "60000"),
    )
    job = workplace.job(server.url, prompts=12, model={"api_key_env": "MY_KEY"})
    done = subprocess.run(
        [str(workplace.program), "run", str(job), "--run", "r", "--json", "--log-json"],
        cwd=workplace.folder, env={**os.environ, "MY_KEY": KEY}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = events(done)
    failed = [line for line in lines if line["event"] == "attempt_failed"]

    assert done.returncode == 3
    assert KEY not in done.stdout + done.stderr
    assert "Say word" not in done.stderr  # no prompt
    started = only(lines, "run_started")
    assert lines[0] == started
    assert (started["run"], started["job"], started["prompts"], started["calls"], started["already"]) == (
        "r", "job", 12, 12, 0,
    )  # fmt: skip
    assert Counter((line["prompt_id"], line["error_type"], line["status"]) for line in failed) == {
        ("p3", "server_error", 500): 1,
        ("p3", "connection", None): 1,
        ("p7", "rate_limit", 429): 1,
        ("p8", "malformed_answer", 200): 1,
    }
    assert [line["attempt"] for line in failed if line["prompt_id"] == "p3"] == [1, 2]
    assert only(lines, "prompt_failed") | {"ts": "", "message": ""} == {
        "ts": "", "level": "warning", "event": "prompt_failed", "message": "", "prompt_id": "p5",
        "error_type": "invalid_request", "status": 400, "attempts": 1, "maybe_billed": False,
    }  # fmt: skip
    assert only(lines, "limit_learned")["requests_per_minute"] == 60000
    part = only(lines, "part_committed")
    # 11 answers of 6 tokens with 3 alternatives each, and a failure.
    assert part["rows"] == {"completions": 11, "tokens": 66, "alternatives": 198, "prompts": 12, "failures": 1}
    assert part["bytes"] == sum(path.stat().st_size for path in workplace.folder.glob("store/*/*/part-*.parquet"))
    ended = only(lines, "run_ended")
    assert lines[-1] == ended
    summary = json.loads(done.stdout)
    assert {name: ended[name] for name in summary if name not in {"seconds", "verdict"}} == {
        name: value for name, value in summary.items() if name not in {"seconds", "verdict"}
    }


@pytest.mark.slow
def test_before_the_command_it_means_the_same(workplace: Any, serve: Any) -> None:
    """`logprobs --log-json run` logs what `logprobs run --log-json` does."""
    job = workplace.job(serve().url, prompts=3)
    before = events(workplace.run("--log-json", "run", job, "--run", "before"))
    after = events(workplace.run("run", job, "--run", "after", "--log-json"))

    assert [line["event"] for line in before] == ["run_started", "part_committed", "run_ended"]
    assert [line["event"] for line in after] == [line["event"] for line in before]


def test_an_outage_and_a_stop(workplace: Any, serve: Any) -> None:
    """The start and end of an outage are logged, and a refused key is the reason for the stop."""
    server = serve("--script", "503*12,ok*30,401*50")
    done = workplace.run("run", workplace.job(server.url, prompts=100, concurrency=8), "--run", "r", "--log-json")
    lines = events(done)
    said = [line["event"] for line in lines]

    assert done.returncode == 4
    assert said.index("outage_began") < said.index("outage_ended") < said.index("stopped") < said.index("run_ended")
    assert (only(lines, "stopped")["reason"], only(lines, "stopped")["status"]) == ("authentication", 401)
    assert only(lines, "run_ended")["state"] == "stopped"


def test_a_wrong_job_is_an_event(workplace: Any) -> None:
    """An error before the command starts is a line of JSON too."""
    done = workplace.run("run", "no.toml", "--log-json")
    error = only(events(done), "error")

    assert (done.returncode, error["exit_code"], error["level"]) == (2, 2, "error")
    assert "no.toml" in error["message"]


def test_warnings_and_bugs_are_lines_too(tmp_path: Path) -> None:
    """A library's warning is the event `log`, and a bug an `error` with its traceback."""
    code = (
        "import warnings; from logprob_store.cli.logs import log_json; log_json();"
        r"warnings.warn('old \x1b[31m'); raise KeyError('lost')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    warned, bug = events(done)

    assert (warned["event"], warned["level"], warned["logger"]) == ("log", "warning", "py.warnings")
    assert (bug["event"], bug["exit_code"], bug["message"]) == ("error", 1, "KeyError: 'lost'")
    assert bug["traceback"].startswith("Traceback")


@pytest.mark.parametrize("words", [["record", "--fixtures", "fx"], ["run", "--dry-run"]])
def test_commands_that_log_little(workplace: Any, serve: Any, words: list[str]) -> None:
    """`record` and a dry run take the option too, and log nothing but JSON."""
    job = workplace.job(serve("--script", "500").url, prompts=2)
    done = workplace.run(words[0], job, *words[1:], "--log-json")

    assert done.returncode == 0
    assert {line["event"] for line in events(done)} <= {"attempt_failed"}
