"""Before the first call: a job that its model cannot answer is refused, unless nothing would be asked."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

import logprob_store as ls
from logprob_store.errors import JobError
from logprob_store.job import override
from logprob_store.run.dry_run import dry_run
from logprob_store.run.preflight import ModelCheck
from logprob_store.run.record import record_job

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import MakeJob

TEXTS = {"text": ["a", "b", "c"]}
LUNA: dict[str, Any] = {"name": "m", "takes": {"like": "gpt-6-luna"}}
"""A server of the test's own, of which the job says what it takes."""
FITTING = {"reasoning_effort": "none", "max_completion_tokens": 3}


@pytest.mark.parametrize("name", ["gpt-6-astra", "gpt-6-luna", "o3"])
def test_nothing_is_asked_or_written(name: str, make: MakeJob, tmp_path: Path) -> None:
    """Not even a key is wanted, and no run is begun."""
    job = make(TEXTS, model={"name": name, "provider": None})

    with pytest.raises(JobError, match=f"{name} gives (no logprobs|logprobs only at reasoning effort none)"):
        ls.run_job(job)
    with pytest.raises(JobError, match="write under"):
        dry_run(job)
    assert not (tmp_path / "store").exists()


def test_a_job_that_fits_is_asked(make: MakeJob, fault_server: Any) -> None:
    """As it is written: nothing is changed."""
    summary = ls.run_job(make(TEXTS, fault_server.url, model={**LUNA, "params": FITTING | {"temperature": 0.5}}))

    assert (summary.state, summary.failures) == ("finished", 0)
    assert {(body["reasoning_effort"], body["temperature"]) for body in fault_server.bodies} == {("none", 0.5)}


def test_what_a_job_says_of_its_model_is_no_part_of_a_run(make: MakeJob, fault_server: Any) -> None:
    """A run goes on when it is said, or is no longer."""
    ls.run_job(make(TEXTS, fault_server.url, model={"params": FITTING}), run="r")

    assert (
        ls.run_job(
            make(TEXTS, fault_server.url, model={"takes": {"like": "gpt-6-luna"}, "params": FITTING}), run="r"
        ).already
        == 3
    )


def test_settings_of_the_command_line_leave_it_as_it_is(make: MakeJob) -> None:
    """What `takes` leaves open stays open when other settings are replaced."""
    job = override(make(TEXTS, model={"name": "gpt-6-astra", "takes": {"most_top_logprobs": 3}}), select="all")
    known = ModelCheck(job).model

    assert known is not None
    assert (known.takes.logprobs, known.takes.most_top_logprobs) == ("no", 3)


def test_a_cached_run_needs_no_model(make: MakeJob, fault_server: Any) -> None:
    """What was answered once is answered again, whatever is known of the model now."""
    ls.run_job(make(TEXTS, fault_server.url, model={"takes": "anything"}), run="first")
    job = make(TEXTS, fault_server.url, model=LUNA | {"name": "m"})
    again = ls.run_job(job, run="second")

    assert (again.state, again.from_cache, dry_run(job, run="third").cached) == ("finished", 3, 3)


def test_one_call_that_is_not_cached_is_refused(make: MakeJob, fault_server: Any) -> None:
    """Nothing of the run is begun then."""
    ls.run_job(make(TEXTS, fault_server.url, model={"takes": "anything"}), run="first")

    with pytest.raises(JobError, match="m gives logprobs only at reasoning effort none"):
        ls.run_job(make({"text": ["a", "b", "c", "d"]}, fault_server.url, model=LUNA), run="second")


def test_a_finished_run_is_gone_on_with(make: MakeJob, fault_server: Any) -> None:
    """There is nothing to ask, with the cache switched off too."""
    off = {"mode": "off"}
    ls.run_job(make(TEXTS, fault_server.url, model={"takes": "anything"}, cache=off), run="r")

    assert ls.run_job(make(TEXTS, fault_server.url, model=LUNA, cache=off), run="r").already == 3


def test_a_replay_needs_no_model(make: MakeJob, tmp_path: Path, fault_server: Any) -> None:
    """Recordings answer."""
    asyncio.run(record_job(make(TEXTS, fault_server.url, model={"takes": "anything"}), tmp_path / "fixtures"))
    replay = {"kind": "replay", "fixtures": "fixtures"}
    job = make(TEXTS, fault_server.url, model=LUNA, transport=replay)

    assert ls.run_job(job).from_fixtures == 3
    assert dry_run(job).to_ask == 0


def params_of_rows(*rows: dict[str, Any]) -> dict[str, Any]:
    """Prompts with parameters of their own."""
    return {"text": [f"t{number}" for number in range(len(rows))], "p": [json.dumps(row) for row in rows]}


def test_a_row_whose_parameters_are_refused_fails_alone(make: MakeJob, fault_server: Any, tmp_path: Path) -> None:
    """It is a failure that says what to write; the others are asked."""
    columns = params_of_rows({}, {"stop": ["."]}, {"reasoning_effort": "low"}, {})
    job = make(columns, fault_server.url, prompts={"params": "p"}, model={**LUNA, "params": FITTING})
    summary = ls.run_job(job, run="r")
    failures = ls.open_store(tmp_path / "store").failures.sort("prompt_index").collect()

    assert (summary.answered, summary.failed, summary.calls) == (2, 2, 2)
    assert failures["error_type"].to_list() == ["bad_prompt", "bad_prompt"]
    assert failures["attempts"].to_list() == [0, 0]
    assert failures["message"][0].startswith("m takes no stop: write in the row's params: params = {")
    assert failures["message"][1].startswith("m gives logprobs only at reasoning effort none, and low is asked")
    assert (dry_run(job, run="s").bad, dry_run(job, run="s").cached) == (2, 2)


def test_rows_that_mend_what_the_job_lacks(make: MakeJob, fault_server: Any) -> None:
    """Where one row does, the job is not refused."""
    columns = params_of_rows({}, {"reasoning_effort": "none"})
    job = make(
        columns,
        fault_server.url,
        prompts={"params": "p"},
        model={**LUNA, "params": {"max_completion_tokens": 3}},
    )

    assert (ls.run_job(job).answered, len(fault_server.calls)) == (1, 1)


def test_rows_that_all_fail(make: MakeJob, fault_server: Any) -> None:
    """The job is refused as a whole."""
    columns = params_of_rows({"temperature": 1}, {"temperature": 0})
    job = make(columns, fault_server.url, prompts={"params": "p"}, model=LUNA)

    with pytest.raises(JobError, match="write under"):
        ls.run_job(job)


def test_a_row_that_asks_another_model(make: MakeJob, fault_server: Any) -> None:
    """Each is looked up by its own name."""
    columns = params_of_rows({}, {"model": "gpt-6-astra"})
    job = make(columns, fault_server.url, prompts={"params": "p"}, model={"table": "mine.toml"})
    job.resolve("mine.toml").write_text('[[models]]\nnames = ["gpt-6-astra"]\nlogprobs = "no"\n', encoding="utf-8")

    summary = ls.run_job(job)

    assert (summary.answered, summary.failed, len(fault_server.calls)) == (1, 1, 1)


def test_a_table_of_the_jobs_own(make: MakeJob, tmp_path: Path) -> None:
    """Its path is relative to the job file."""
    (tmp_path / "mine.toml").write_text('[[models]]\nnames = ["house"]\nlike = "gpt-6-luna"\n', encoding="utf-8")
    job = make(TEXTS, "http://127.0.0.1:1/v1", model={"name": "house", "table": "mine.toml"})

    with pytest.raises(JobError, match="house gives logprobs only"):
        dry_run(job)


def test_a_shutdown_is_warned_of_once(make: MakeJob, fault_server: Any, caplog: pytest.LogCaptureFixture) -> None:
    """And `--dry-run` says it in its last line."""
    takes = {"shutdown": "2026-01-01", "successor": "gpt-6-luna"}
    job = make(TEXTS, fault_server.url, model={"takes": takes})
    with caplog.at_level(logging.WARNING, "logprob_store"):
        summary = ls.run_job(job)
    said = [record.getMessage() for record in caplog.records]

    assert summary.state == "finished"
    assert [text for text in said if "has shut down on 2026-01-01" in text] == said
    assert len(said) == 1
    assert (
        dry_run(job).sentence.splitlines()[-1].startswith("m has shut down on 2026-01-01; its successor is gpt-6-luna")
    )


@pytest.mark.parametrize("name", ["gpt-6-astra", "gpt-6-luna", "gpt-5.4-mini", "o3", "o4-mini", "gpt-5"])
@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_what_only_the_server_knows(name: str, endpoint: str, make: MakeJob, fault_server: Any) -> None:
    """A server that nothing is known of refuses logprobs in the words of its family: the run stops, with the advice."""
    effort = {"reasoning_effort": "low"} if endpoint == "chat" else {"reasoning": {"effort": "low"}}
    job = make(TEXTS, fault_server.url, model={"name": name, "endpoint": endpoint, "params": effort})
    summary = ls.run_job(job)

    assert (summary.state, summary.answered) == ("stopped", 0)
    assert 'params = { reasoning_effort = "none", max_completion_tokens = 64 }' in str(summary.reason)
    assert 'params = { reasoning = { effort = "none" }, max_output_tokens = 64 }' in str(summary.reason)


def test_complete_is_refused_alike(tmp_path: Path) -> None:
    """Nothing is sent: this machine's network is not even tried."""
    with pytest.raises(JobError, match="gpt-6-luna gives logprobs only at reasoning effort none") as caught:
        ls.complete("Hi", model="gpt-6-luna", api_key="k", cache=tmp_path, max_tokens=20)

    write = "write in the call: params={'reasoning_effort': 'none', 'max_completion_tokens': 20} (https"
    assert write in str(caught.value)


def test_complete_with_what_is_known_better(fault_server: Any) -> None:
    """As a job file says it."""
    url = fault_server.url
    params = {"reasoning_effort": "none", "max_completion_tokens": 3}
    with pytest.raises(JobError, match="m gives logprobs only"):
        ls.complete("Hi", model="m", base_url=url, takes={"like": "gpt-6-luna"})

    assert ls.complete("Hi", model="m", base_url=url, takes={"like": "gpt-6-luna"}, params=params).text
    assert ls.complete("Hi", model="m", base_url=url, takes="anything", max_tokens=3).text


def test_recording_is_refused_alike(make: MakeJob, tmp_path: Path, fault_server: Any) -> None:
    """Unless it is refusals that are to be recorded."""
    job = make(TEXTS, fault_server.url, model=LUNA)
    with pytest.raises(JobError, match="m gives logprobs only"):
        asyncio.run(record_job(job, tmp_path / "fixtures"))

    assert asyncio.run(record_job(job, tmp_path / "fixtures", refusals=True)).calls == 3
