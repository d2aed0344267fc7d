"""The command `models`: what is known of a model, and what a server says of its own."""

from __future__ import annotations

import json
import socket
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from builders import write_job, write_prompts

if TYPE_CHECKING:
    from pathlib import Path


def test_the_whole_table(logprobs: Any) -> None:
    """A row for each name, with its shutdown."""
    rows = {row["model"]: row for row in json.loads(logprobs("models", "--json").out)}

    assert (rows["gpt-4o-mini"]["shutdown"], rows["gpt-4o-mini"]["successor"]) == ("2027-01-14", "gpt-6-luna")
    assert rows["gpt-6-astra"]["logprobs"] == "no"
    assert "gpt-4o-mini" in logprobs("models").out


def lines_of(shown: str, endpoint: str) -> dict[str, Any]:
    """The lines of a job that are shown for an endpoint."""
    return tomllib.loads(shown.partition(f"  with logprobs, endpoint {endpoint}:\n")[2].partition("\n  with")[0])


def test_one_model(logprobs: Any) -> None:
    """With the lines of a job to write, for each endpoint."""
    shown = logprobs("models", "gpt-6-luna").out

    assert lines_of(shown, "chat") == {"params": {"reasoning_effort": "none", "max_completion_tokens": 64}}
    assert lines_of(shown, "responses") == {"params": {"reasoning": {"effort": "none"}, "max_output_tokens": 64}}


def test_a_model_without_logprobs(logprobs: Any) -> None:
    """The lines name another one."""
    assert lines_of(logprobs("models", "gpt-6.2-sol").out, "chat")["name"] == "gpt-6-luna"


@pytest.mark.parametrize("words", [("gpt-99",), ("gpt-4o-mini", "--base-url", "http://127.0.0.1:1/v1")])
def test_a_model_of_which_nothing_is_known(words: tuple[str, ...], logprobs: Any) -> None:
    """That is no error: a job asks it as it is."""
    done = logprobs("models", *words)

    assert done.code == 0
    assert f"nothing is known of {words[0]}" in done.out
    assert json.loads(logprobs("models", *words, "--json").out) == {"model": words[0], "known": False}


def test_rows_of_ones_own(logprobs: Any, tmp_path: Path) -> None:
    """They go first."""
    (tmp_path / "mine.toml").write_text('[[models]]\nnames = ["gpt-6-astra"]\nlogprobs = "yes"\n', encoding="utf-8")
    done = logprobs("models", "gpt-6-astra", "--table", tmp_path / "mine.toml", "--json")

    assert json.loads(done.out)["logprobs"] == "yes"


def test_what_a_server_lists(logprobs: Any, fault_server: Any) -> None:
    """Its own word on shutdowns."""
    fault_server.behaviour.models = ["a", "b"]
    fault_server.behaviour.shutdowns = {"b": "2027-03-01"}
    done = logprobs("models", "--live", "--base-url", fault_server.url, "--json")

    assert [(row["model"], row["shutdown"]) for row in json.loads(done.out)] == [("a", None), ("b", "2027-03-01")]
    assert fault_server.calls == []


def test_one_model_of_a_server(logprobs: Any, fault_server: Any) -> None:
    """One that it does not list is an error."""
    fault_server.behaviour.models = ["a", "b"]
    url = ("--live", "--base-url", fault_server.url)

    assert len(json.loads(logprobs("models", "b", *url, "--json").out)) == 1
    assert logprobs("models", "c", *url).code == 2
    assert "does not list 'c'" in logprobs("models", "c", *url).err


def test_a_server_that_lists_none(logprobs: Any, fault_server: Any) -> None:
    """It is said why."""
    done = logprobs("models", "--live", "--base-url", fault_server.url)

    assert done.code == 2
    assert f"the server at {fault_server.url} lists no models: HTTP 404" in done.err


def test_openai_wants_a_key(logprobs: Any) -> None:
    """The variable is named."""
    done = logprobs("models", "--live")

    assert (done.code, "OPENAI_API_KEY is not set" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            "gpt-6-astra",
            '\n  name = "gpt-6-luna"\n  params = { reasoning_effort = "none", max_completion_tokens = 64 }\n',
        ),
        ("gpt-6-luna", ' params = { reasoning_effort = "none", max_completion_tokens = 64 }'),
        ("gpt-5.4-mini", " params = { max_completion_tokens = 64 }"),
        ("o3", '\n  name = "gpt-6-luna"\n  params = { reasoning_effort = "none", max_completion_tokens = 64 }\n'),
    ],
)
def test_a_job_that_cannot_work(model: str, said: str, logprobs: Any, tmp_path: Path) -> None:
    """Without a key, and before one is missed: a run, a dry run and the doctor say the line to write."""
    write_prompts(tmp_path, {"text": ["a"]})
    job = write_job(tmp_path, model={"name": model, "params": {"max_tokens": 64}})
    run, dry = logprobs("run", job), logprobs("run", job, "--dry-run")

    assert (run.code, dry.code) == (2, 2)
    assert f"write under [model]:{said}" in run.err
    assert dry.err == run.err


def test_recording_says_it_before_it_misses_a_key(logprobs: Any, tmp_path: Path) -> None:
    """As a run does: who has no key yet has the line to write."""
    write_prompts(tmp_path, {"text": ["a"]})
    job = write_job(tmp_path, model={"name": "gpt-6-astra"})
    done = logprobs("record", job, "--fixtures", tmp_path / "fixtures")

    assert (done.code, "gpt-6-astra gives no logprobs" in done.err) == (2, True)


def test_a_tier_that_the_model_has_not(logprobs: Any, tmp_path: Path) -> None:
    """Before anything is spent."""
    write_prompts(tmp_path, {"text": ["a"]})
    job = write_job(tmp_path, model={"name": "gpt-4o-mini", "params": {"max_tokens": 5}}, transport={"tier": "flex"})
    done = logprobs("run", job)

    assert (done.code, 'write under [transport]: tier = "default"' in done.err) == (2, True)


@pytest.mark.live
def test_a_server_that_cannot_be_reached(logprobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, and no traceback."""
    monkeypatch.setenv("NO_PROXY", "*")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = logprobs("models", "--live", "--base-url", f"http://127.0.0.1:{port}/v1")

    assert done.code == 2
    assert f"http://127.0.0.1:{port}/v1 cannot be asked for its models: " in done.err
    assert done.err.count("\n") == 1


def test_a_job_that_works_for_a_while(logprobs: Any, tmp_path: Path) -> None:
    """Its calls are counted, and the last line says how long its model will be there."""
    write_prompts(tmp_path, {"text": ["a"]})
    job = write_job(tmp_path, model={"name": "gpt-4o-mini", "takes": {"shutdown": "2026-01-01"}})
    done = logprobs("run", job, "--dry-run")

    assert done.code == 0
    assert done.out.splitlines()[-1].startswith("gpt-4o-mini has shut down on 2026-01-01; its successor is gpt-6-luna")
    assert json.loads(logprobs("run", job, "--dry-run", "--json").out)["notice"] == done.out.splitlines()[-1]
