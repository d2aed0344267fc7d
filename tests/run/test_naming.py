"""Runs that begin anew: under the next free name, or in the place of a trial."""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from builders import write_job, write_prompts

import logprob_store as ls
from logprob_store.errors import InputError, RunChangedError, RunLockedError, StoreError
from logprob_store.run.dry_run import dry_run
from logprob_store.store.lock import take_lock
from logprob_store.store.verifying import verify_store

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.job import Job


def make(folder: Path, url: str, template: str = "{text}", **sections: Any) -> Job:
    """A job of three prompts."""
    write_prompts(folder, {"text": ["a", "b", "c"]})
    prompts = {"prompt": None, "template": template}
    return ls.load_job(write_job(folder, url, prompts=prompts, model={"params": {"max_tokens": 2}}, **sections))


def test_an_edited_job_begins_a_run_beside_the_old_one(tmp_path: Path, fault_server: Any) -> None:
    """The second and third take the next free names; without a run of the name, the name itself is free."""
    runs = []
    for template in ("{text}", "say {text}", "tell {text}"):
        job = make(tmp_path, fault_server.url, template)
        runs.append(ls.run_job(job, run="r", new=True).run)

    assert runs == ["r", "r.2", "r.3"]
    assert ls.open_store(tmp_path / "store").completions.collect().height == 9


def test_the_default_name_is_that_of_the_day(tmp_path: Path, fault_server: Any) -> None:
    """`<job>-<date>`, then `<job>-<date>.2`."""
    job = make(tmp_path, fault_server.url)
    today = f"job-{date.today().isoformat()}"  # noqa: DTZ011  the user's own date

    assert [ls.run_job(job, new=True).run for _ in range(2)] == [today, f"{today}.2"]


def test_a_trial_is_replaced(tmp_path: Path, fault_server: Any) -> None:
    """A run with a limit goes, with its rows, and the run of that name is that of the edited job."""
    ls.run_job(make(tmp_path, fault_server.url), run="r", limit=1)

    summary = ls.run_job(make(tmp_path, fault_server.url, "say {text}"), run="r", replace=True)

    store = ls.open_store(tmp_path / "store")
    assert (summary.total, summary.already) == (3, 0)
    assert store.prompts.collect()["messages"].str.contains("say").all()
    assert verify_store(tmp_path / "store") == []


def test_a_run_without_any_answer_is_replaced(tmp_path: Path, fault_server: Any) -> None:
    """Nothing is lost with it, though it finished over all its prompts."""
    write_prompts(tmp_path, {"text": [None, None]})
    ls.run_job(ls.load_job(write_job(tmp_path, fault_server.url)), run="r")

    assert ls.run_job(make(tmp_path, fault_server.url), run="r", replace=True).completions == 3


def test_a_whole_run_is_not_replaced(tmp_path: Path, fault_server: Any) -> None:
    """It is no trial: the error says how to remove it, in a dry run too, and the run stays."""
    ls.run_job(make(tmp_path, fault_server.url), run="r")
    changed = make(tmp_path, fault_server.url, "say {text}")

    for start in (ls.run_job, dry_run):
        with pytest.raises(StoreError, match=re.escape(f"`logprobs rm {tmp_path / 'store'} r` removes it; --new")):
            start(changed, run="r", replace=True)  # type: ignore[operator]

    assert ls.open_store(tmp_path / "store").completions.collect().height == 3


def test_a_run_that_is_written_is_not_replaced(tmp_path: Path, fault_server: Any) -> None:
    """Its writer goes on."""
    job = make(tmp_path, fault_server.url)
    ls.run_job(job, run="r", limit=1)

    with take_lock(tmp_path / "store", "r"), pytest.raises(RunLockedError):
        ls.run_job(job, run="r", replace=True)

    assert ls.open_store(tmp_path / "store").completions.collect().height == 1


def test_a_run_that_is_not_there_begins(tmp_path: Path, fault_server: Any) -> None:
    """`replace` can stand in a script from the first run on."""
    assert ls.run_job(make(tmp_path, fault_server.url), run="r", replace=True).state == "finished"


def test_the_error_names_both_ways(tmp_path: Path, fault_server: Any) -> None:
    """Whoever edited the job reads what to type."""
    ls.run_job(make(tmp_path, fault_server.url), run="r", limit=1)

    with pytest.raises(RunChangedError, match=r"--new .*--replace.*new=True, replace=True.*undo the change"):
        ls.run_job(make(tmp_path, fault_server.url, "say {text}"), run="r")


def test_both_at_once_are_refused(tmp_path: Path) -> None:
    """They contradict each other."""
    with pytest.raises(InputError, match="give one of them"):
        ls.run_job(make(tmp_path, "http://127.0.0.1:9/v1"), new=True, replace=True)


def test_a_dry_run_counts_as_the_run_would(tmp_path: Path, fault_server: Any) -> None:
    """A new run has nothing yet; nor has one that replaces a trial."""
    job = make(tmp_path, fault_server.url, cache={"mode": "off"})
    ls.run_job(job, run="r", limit=1)

    assert [dry_run(job, run="r", **how).settled for how in ({}, {"new": True}, {"replace": True})] == [1, 0, 0]


def test_the_command_line_has_both(tmp_path: Path, fault_server: Any, logprobs: Any) -> None:
    """`run --replace` and `run --new`."""
    make(tmp_path, fault_server.url)
    job = tmp_path / "job.toml"
    said = [
        logprobs("run", job, "--run", "r", "--limit", 1).out,
        logprobs("run", job, "--run", "r", "--replace").out,
        logprobs("run", job, "--run", "r", "--new").out,
    ]

    assert [text.split()[1] for text in said] == ["r", "r", "r.2"]
