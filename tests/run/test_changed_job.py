"""A run that has no answer yet, and a job that was mended: the same command goes on, and asks all of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from builders import merge_sections, write_job, write_prompts

import logprob_store as ls
from logprob_store.errors import RunChangedError
from logprob_store.run.dry_run import dry_run

if TYPE_CHECKING:
    from pathlib import Path

NOWHERE = "http://127.0.0.1:9/v1"
COUNTRIES = {"text": ["France", "Japan", "Peru"]}
QUICK = {"limits": {"retry_for_s": 1, "attempts": 2}, "model": {"params": {"max_tokens": 2}}}


def job_of(folder: Path, url: str, columns: dict[str, Any] = COUNTRIES, **sections: dict[str, Any]) -> ls.Job:
    """The job as it stands in its file now."""
    write_prompts(folder, columns)
    return ls.load_job(write_job(folder, url, **merge_sections(QUICK, sections)))


def test_a_wrong_model_is_corrected_under_the_same_name(tmp_path: Path, fault_server: Any) -> None:
    """Each of the three calls was refused for it: none is left as a failure once the right one has answered."""
    fault_server.when('"wrong"', "404*3")
    first = ls.run_job(job_of(tmp_path, fault_server.url, model={"name": "wrong"}), run="r")

    second = ls.run_job(job_of(tmp_path, fault_server.url, model={"name": "right"}), run="r")

    assert (first.state, first.failures) == ("stopped", 3)
    assert (second.state, second.answered, second.failures) == ("finished", 3, 0)
    assert ls.open_store(tmp_path / "store").prompts.collect().height == 3


def test_a_wrong_address_is_corrected_under_the_same_name(tmp_path: Path, fault_server: Any) -> None:
    """The run of three prompts stopped, as one of three hundred does."""
    first = ls.run_job(job_of(tmp_path, NOWHERE), run="r")

    second = ls.run_job(job_of(tmp_path, fault_server.url), run="r")

    assert first.state == "stopped"
    assert (second.state, second.answered, second.failures) == ("finished", 3, 0)


def test_all_else_may_change_as_well(tmp_path: Path, fault_server: Any) -> None:
    """The template, the prompts themselves, and the number of samples: two prompts of two samples are four answers."""
    fault_server.when("France", "400")
    fault_server.when("Japan", "400")
    fault_server.when("Peru", "400")
    ls.run_job(job_of(tmp_path, fault_server.url), run="r")

    columns = {"text": ["Chile", "Mali"], "year": [1, 2]}
    mended = job_of(tmp_path, fault_server.url, columns, model={"samples": 2}, prompts={"keep": ["year"]})
    summary = ls.run_job(mended, run="r")

    assert (summary.total, summary.answered, summary.failures) == (4, 4, 0)
    assert ls.open_store(tmp_path / "store").prompts.sort("prompt_index").collect()["year"].to_list() == [1, 2]


def test_a_dry_run_counts_what_the_mended_job_asks(tmp_path: Path, fault_server: Any) -> None:
    """All of it, though three calls of the earlier try have an outcome."""
    ls.run_job(job_of(tmp_path, NOWHERE), run="r")

    estimate = dry_run(job_of(tmp_path, fault_server.url, {"text": ["Chile"]}), run="r")

    assert (estimate.calls, estimate.settled, estimate.to_ask) == (1, 0, 1)


def test_one_answer_keeps_the_job(tmp_path: Path, fault_server: Any) -> None:
    """The rows of two jobs never stand in one run."""
    fault_server.when("France", "400")
    ls.run_job(job_of(tmp_path, fault_server.url, model={"name": "a"}), run="r")

    with pytest.raises(RunChangedError, match=r"model\.name is 'b', was 'a'"):
        ls.run_job(job_of(tmp_path, fault_server.url, model={"name": "b"}), run="r")


@pytest.mark.parametrize(
    ("steps", "reason", "words"),
    [
        ("404*9", "all_refused", "of 3 requests none got an answer of use. HTTP 404"),
        ("500:retry-after-ms=1*9", "outage", "of 3 requests none got an answer of use. HTTP 500"),
        ("reset*9", "outage", "See that it runs and takes what the job asks"),
        ("envelope*9", "malformed_answer", "See that model.base_url leads to an OpenAI-compatible API"),
        ("404, 422*8", "all_refused", "Change what the job asks (model.name, model.base_url, model.params)"),
    ],
)
def test_a_run_of_few_prompts_stops_if_none_is_answered(
    tmp_path: Path, fault_server: Any, steps: str, reason: str, words: str
) -> None:
    """It says why, what to change and where the server is, as a run of many prompts does."""
    fault_server.script(steps)

    summary = ls.run_job(job_of(tmp_path, fault_server.url), run="r")

    (session,) = json.loads((tmp_path / "store/runs/run=r/run.json").read_text())["sessions"]
    assert (summary.state, session["reason"]) == ("stopped", reason)
    assert words in (summary.reason or "")
    assert (summary.reason or "").endswith(f"The server: {fault_server.url}")


@pytest.mark.parametrize("step", ["content_filter", "null"])
def test_prompts_that_are_refused_for_what_they_hold_stop_nothing(tmp_path: Path, fault_server: Any, step: str) -> None:
    """Nor do answers that came, and have no logprobs: the server serves the job."""
    fault_server.script(f"{step}*3")

    assert ls.run_job(job_of(tmp_path, fault_server.url), run="r").state == "finished"
