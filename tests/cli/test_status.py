"""`logprobs status`: failures by class over runs, and what a run under way has on disk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from builders import write_job, write_prompts

import logprob_store as ls
from logprob_store.store.lock import take_lock
from logprob_store.store.manifest import Counts, manifest_path, read_manifest, write_manifest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def nights(tmp_path: Path, fault_server: Any) -> Path:
    """Two nights of three prompts: two of the first night fail, and one of the second."""
    write_prompts(tmp_path, {"text": ["a", "b", "c"]})
    for run, steps in (("night-1", "400*2"), ("night-2", "400")):
        fault_server.script(steps)
        job = write_job(tmp_path, fault_server.url, cache={"mode": "refresh"}, limits={"concurrency": 1})
        ls.run_job(job, run=run)
    return tmp_path / "store"


def test_each_class_of_failure_has_one_line_with_its_runs(nights: Path, logprobs: Any) -> None:
    """Not one for each run, and again in a table."""
    said = logprobs("status", nights).out

    assert said.count("invalid_request") == 1
    assert "3 invalid_request in 2 runs (night-1 2, night-2 1), such as: HTTP 400" in said


def test_a_class_of_one_run_names_it(nights: Path, logprobs: Any) -> None:
    """Without brackets around a single number."""
    assert "2 invalid_request in night-1, such as: " in logprobs("status", nights, "--run", "night-1").out


def test_json_has_the_failures_of_each_run(nights: Path, logprobs: Any) -> None:
    """For machines nothing is added up."""
    failures = json.loads(logprobs("status", nights, "--json").out)["failures"]

    assert [(row["run"], row["error_type"], row["prompts"]) for row in failures] == [
        ("night-1", "invalid_request", 2),
        ("night-2", "invalid_request", 1),
    ]


def test_a_run_under_way_shows_what_is_committed(nights: Path, logprobs: Any) -> None:
    """Its answers, its calls, and its open failures, which the manifest counts only at the end of a session."""
    manifest = read_manifest(path := manifest_path(nights, "night-1"))
    manifest.state, manifest.counts.failures = "running", 0
    write_manifest(path, manifest)
    with take_lock(nights, "night-1"):
        said = logprobs("status", nights).out
        (row, _) = json.loads(logprobs("status", nights, "--json").out)["runs"]

    assert "night-1 is running: 1 answer in 1 part committed so far, 3 calls made; answers are committed once" in said
    assert (row["state"], row["completions"], row["failures"]) == ("running", 1, 2)


def test_a_run_under_way_without_a_part_says_how_many_calls_it_made(nights: Path, logprobs: Any) -> None:
    """Nothing is committed in the first minute; the log of calls knows of them."""
    manifest = read_manifest(path := manifest_path(nights, "night-1"))
    manifest.state, manifest.parts, manifest.counts, manifest.spent.requests = "running", [], Counts(), 0
    write_manifest(path, manifest)
    with take_lock(nights, "night-1"):
        said = logprobs("status", nights).out

    assert "night-1 is running: nothing committed so far, 3 calls made; " in said
