"""What `logprobs run` says at its end: numbers that add up, and why answers are missing."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from builders import write_job, write_prompts

import logprob_store as ls

if TYPE_CHECKING:
    from pathlib import Path


def run(logprobs: Any, folder: Path, url: str, columns: dict[str, Any], *words: str, **sections: Any) -> Any:
    """The last session of a job over these prompts."""
    write_prompts(folder, columns)
    return logprobs("run", write_job(folder, url, **sections), *words)


def test_equal_prompts_are_accounted_for(logprobs: Any, tmp_path: Path, fault_server: Any) -> None:
    """Of five answers two took a call, and three came by one of these."""
    done = run(logprobs, tmp_path, fault_server.url, {"text": ["x", "x", "x", "y", "y"]})

    assert done.code == 0
    assert "5 answers wanted: 2 from the server, 3 by the calls of equal prompts, 0 failed." in done.out


@pytest.mark.parametrize("steps", ["ok", "500:retry-after-ms=1*3", "400", "truncated*2"])
def test_the_numbers_add_up(logprobs: Any, tmp_path: Path, fault_server: Any, steps: str) -> None:
    """However answers came or failed, also in a later session."""
    columns = {"text": ["x", "x", None, "y", "z"]}
    for _ in range(2):
        fault_server.script(steps)
        said = json.loads(run(logprobs, tmp_path, fault_server.url, columns, "--json").out)
        parts = ("already", "answered", "shared", "from_cache", "from_fixtures", "failed", "not_reached")
        assert sum(said[name] for name in parts) == said["total"] == 5


def test_calls_that_were_repeated_are_said(logprobs: Any, tmp_path: Path, fault_server: Any) -> None:
    """They are no answers."""
    fault_server.script("500:retry-after-ms=1*2")

    assert "1 from the server in 3 calls, 0 failed" in run(logprobs, tmp_path, fault_server.url, {"text": ["x"]}).out


def test_a_null_prompt_is_said_and_never_goes_on(logprobs: Any, tmp_path: Path, fault_server: Any) -> None:
    """With its row, its column and what to do; the same command would not help."""
    done = run(logprobs, tmp_path, fault_server.url, {"text": ["x", None]})

    assert done.code == 3
    assert re.search(r"1 null_prompt, such as: .*row 1: column 'text' is null: fill it", done.out)
    assert "the same command goes on" not in done.out


def test_each_class_of_failure_has_an_example(logprobs: Any, tmp_path: Path, fault_server: Any) -> None:
    """In the server's words; the same command asks a refused one again, and that is not likely to help."""
    fault_server.when("bad", "400")
    done = run(logprobs, tmp_path, fault_server.url, {"text": ["x", "bad"]})

    assert done.code == 3
    assert "1 invalid_request, such as: HTTP 400 server_error: unwell" in done.out
    assert "likely to refuse them again" in done.out


@pytest.mark.usefixtures("fault_server")
@pytest.mark.parametrize("prompts", [1, 2, 20])
def test_a_server_that_was_never_reached_is_named_at_the_end(logprobs: Any, tmp_path: Path, prompts: int) -> None:
    """The run stops, however few its prompts are, and the last line has the URL and the reason."""
    columns = {"text": [f"q{number}" for number in range(prompts)]}
    done = run(logprobs, tmp_path, "http://127.0.0.1:9/v1", columns, limits={"retry_for_s": 1, "attempts": 2})

    last = done.out.splitlines()[-1]
    assert done.code == 4
    assert last.startswith("stopped: ")
    assert "http://127.0.0.1:9/v1" in last
    assert "no connection to 127.0.0.1:9 (ConnectionRefusedError" in last


@pytest.mark.slow
@pytest.mark.usefixtures("fault_server")
def test_what_is_waited_for_is_said_at_once_and_once(
    logprobs: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With reason and URL: a log need not repeat it."""
    run(logprobs, tmp_path, "http://127.0.0.1:9/v1", {"text": ["x"]}, limits={"retry_for_s": 2})

    expected = r"a call failed \(no connection to 127\.0\.0\.1:9 .*\): waiting up to 2 s for http://127\.0\.0\.1:9/v1"
    assert len(re.findall(expected, caplog.text)) == 1


def test_status_names_the_server_of_a_run_that_stopped(logprobs: Any, tmp_path: Path, fault_server: Any) -> None:
    """As the run's last line did."""
    fault_server.script("401*9")
    last = run(logprobs, tmp_path, fault_server.url, {"text": ["x"]}, "--run", "r").out.splitlines()[-1]

    assert f"r {last}" in logprobs("status", tmp_path / "store").out


@pytest.mark.slow
def test_a_run_with_answers_that_cannot_reach_the_server_stops(
    logprobs: Any, tmp_path: Path, fault_server: Any
) -> None:
    """None of its prompts fails: the same command asks them when the server is back."""
    columns = {"text": [f"q{number}" for number in range(30)]}
    run(logprobs, tmp_path, fault_server.url, columns, "--run", "r", "--limit", "3")
    down = {"limits": {"retry_for_s": 1}, "model": {"provider": fault_server.url}}
    done = run(logprobs, tmp_path, "http://127.0.0.1:9/v1", columns, "--run", "r", **down)

    assert done.code == 4
    assert "0 failed, 27 not reached" in done.out


def test_a_refusal_names_the_server_in_the_last_line(logprobs: Any, tmp_path: Path, fault_server: Any) -> None:
    """A key that is refused may be the right one for another server."""
    fault_server.script("401*9")
    done = run(logprobs, tmp_path, fault_server.url, {"text": ["x"]})

    assert done.code == 4
    assert done.out.splitlines()[-1].endswith(f"The server: {fault_server.url}")


def test_a_run_without_a_prompt_says_so(logprobs: Any, tmp_path: Path, fault_server: Any) -> None:
    """A file that was written empty is no error, but nobody should take it for a night's work."""
    done = run(logprobs, tmp_path, fault_server.url, {"text": []})

    assert done.out.splitlines()[-1] == "there is nothing to ask: the prompts files have no row"


def test_a_recording_that_is_refused_names_the_server(logprobs: Any, tmp_path: Path, fault_server: Any) -> None:
    """As a run does."""
    fault_server.script("401*9")
    write_prompts(tmp_path, {"text": ["x"]})
    done = logprobs("record", write_job(tmp_path, fault_server.url), "--fixtures", tmp_path / "fixtures")

    assert done.code == 4
    assert done.err.splitlines()[-1].endswith(f"The server: {fault_server.url}")


def test_a_run_of_the_first_prompts_is_called_a_trial(logprobs: Any, tmp_path: Path, fault_server: Any) -> None:
    """By its last line, by its summary and by `status` alike; run to its end, it is finished."""
    columns = {"text": ["x", "y"]}
    done = run(logprobs, tmp_path, fault_server.url, columns, "--run", "r", "--limit", "1")

    assert done.out.startswith("run r ended as a trial of some of its prompts after ")
    assert "finished" not in done.out
    assert re.search(r"^ r +trial ", logprobs("status", tmp_path / "store").out, re.MULTILINE)
    assert repr(ls.run_job(tmp_path / "job.toml", run="r", limit=1)).startswith("<RunSummary r trial;")
    whole = run(logprobs, tmp_path, fault_server.url, columns, "--run", "r", "--json")
    assert json.loads(whole.out)["partial"] is False


@pytest.mark.parametrize("command", [("run",), ("run", "--dry-run"), ("record", "--fixtures", "f")])
def test_a_limit_of_0_is_an_error(command: tuple[str, ...], logprobs: Any, tmp_path: Path) -> None:
    """It would make a run without an answer, or a recording without a line."""
    write_prompts(tmp_path, {"text": ["x"]})
    done = logprobs(command[0], write_job(tmp_path, "http://127.0.0.1:9/v1"), *command[1:], "--limit", "0")

    assert done.code == 2
    assert not (tmp_path / "store").exists()


def test_a_limit_of_0_is_an_error_in_python(tmp_path: Path) -> None:
    """Which says what to give."""
    write_prompts(tmp_path, {"text": ["x"]})

    with pytest.raises(ls.InputError, match="limit 0 asks nothing: give 1 or more, or none to ask all prompts"):
        ls.run_job(write_job(tmp_path, "http://127.0.0.1:9/v1"), limit=0)
    assert not (tmp_path / "store").exists()
