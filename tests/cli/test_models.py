"""The command `models`: what is known of a model, and what a server says of its own."""

from __future__ import annotations

import json
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
    line = next(line for line in shown.splitlines() if line.startswith(f"  with logprobs, endpoint {endpoint}: "))
    return tomllib.loads(line.partition(f"endpoint {endpoint}: ")[2].replace("; ", "\n"))


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
        ("gpt-6-astra", 'name = "gpt-6-luna"; params = { reasoning_effort = "none", max_completion_tokens = 64 }'),
        ("gpt-6-luna", 'params = { reasoning_effort = "none", max_completion_tokens = 64 }'),
        ("gpt-5.4-mini", "params = { max_completion_tokens = 64 }"),
        ("o3", 'name = "gpt-6-luna"; params = { reasoning_effort = "none", max_completion_tokens = 64 }'),
    ],
)
def test_a_job_that_cannot_work(model: str, said: str, logprobs: Any, tmp_path: Path) -> None:
    """Without a key, and before one is missed: a run, a dry run and the doctor say the line to write."""
    write_prompts(tmp_path, {"text": ["a"]})
    job = write_job(tmp_path, model={"name": model, "params": {"max_tokens": 64}})
    run, dry = logprobs("run", job), logprobs("run", job, "--dry-run")

    assert (run.code, dry.code) == (2, 2)
    assert f"write under [model]: {said}" in run.err
    assert dry.err == run.err


def test_a_job_that_works_for_a_while(logprobs: Any, tmp_path: Path) -> None:
    """Its calls are counted, and the last line says how long its model will be there."""
    write_prompts(tmp_path, {"text": ["a"]})
    job = write_job(tmp_path, model={"name": "gpt-4o-mini", "takes": {"shutdown": "2026-01-01"}})
    done = logprobs("run", job, "--dry-run")

    assert done.code == 0
    assert done.out.splitlines()[-1].startswith("gpt-4o-mini has shut down on 2026-01-01; its successor is gpt-6-luna")
    assert json.loads(logprobs("run", job, "--dry-run", "--json").out)["notice"] == done.out.splitlines()[-1]
