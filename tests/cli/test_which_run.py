"""Which runs a command reads: the newest finished one, unless `--run` says others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from builders import write_job, write_prompts

import logprob_store as ls
from logprob_store.errors import InputError, RunNotFoundError
from logprob_store.store.manifest import manifest_path, read_manifest, write_manifest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path, fault_server: Any) -> Path:
    """Two nights of two prompts, an interrupted night, and a trial of one prompt, in this order."""
    write_prompts(tmp_path, {"text": ["a", "b"]})
    job = write_job(tmp_path, fault_server.url)
    for run, limit in (("night-1", None), ("night-2", None), ("night-3", None), ("trial", 1)):
        ls.run_job(job, run=run, limit=limit)
    path = manifest_path(tmp_path / "store", "night-3")
    manifest = read_manifest(path)
    manifest.state = "interrupted"
    write_manifest(path, manifest)
    return tmp_path / "store"


def runs_of(logprobs: Any, store: Path, *words: str) -> tuple[list[str], str]:
    """The runs that `scores` reads, and what it says of them."""
    done = logprobs("scores", store, *words, "--json")
    assert done.code == 0, done.err
    return sorted({row["run"] for row in json.loads(done.out)}), done.err


def test_the_newest_finished_run_is_read_and_named(store: Path, logprobs: Any) -> None:
    """Not the trial, nor the interrupted one."""
    assert runs_of(logprobs, store) == (["night-2"], "run night-2, 1 of 4 (--run all: all of them)\n")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("all", ["night-1", "night-2", "night-3", "trial"]),
        ("newest", ["night-2"]),
        ("night-*", ["night-1", "night-2", "night-3"]),
        ("night-1, trial", ["night-1", "trial"]),
        ("night-[13]", ["night-1", "night-3"]),
    ],
)
def test_names_patterns_and_words(store: Path, logprobs: Any, wanted: str, expected: list[str]) -> None:
    """What was asked for by name is not said again."""
    assert runs_of(logprobs, store, "--run", wanted) == (expected, "")


def test_a_run_that_is_not_there(store: Path, logprobs: Any) -> None:
    """The error names those that are."""
    done = logprobs("scores", store, "--run", "nihgt-*")

    assert (done.code, done.err) == (
        2,
        "logprobs: no run 'nihgt-*' in this store; it has: night-1, night-2, night-3, trial\n",
    )


def test_without_a_finished_run_the_newest_is_read(store: Path, logprobs: Any) -> None:
    """And its state is said."""
    for run in ("night-1", "night-2", "trial"):
        manifest = read_manifest(path := manifest_path(store, run))
        manifest.state = "stopped"
        write_manifest(path, manifest)

    assert runs_of(logprobs, store) == (["trial"], "run trial, stopped, 1 of 4 (--run all: all of them)\n")


def test_a_trial_is_read_where_there_is_no_other(store: Path, logprobs: Any) -> None:
    """It says that it is one."""
    for run in ("night-1", "night-2"):
        manifest = read_manifest(path := manifest_path(store, run))
        manifest.state = "stopped"
        write_manifest(path, manifest)

    said = "run trial, a trial of some of its prompts, 1 of 4 (--run all: all of them)\n"
    assert runs_of(logprobs, store) == (["trial"], said)


def test_status_shows_all_and_marks_trials(store: Path, logprobs: Any) -> None:
    """Here nothing is left out."""
    done = logprobs("status", store)

    assert [line.split()[:2] for line in done.out.splitlines() if line.startswith((" night", " trial"))] == [
        ["night-1", "finished"], ["night-2", "finished"], ["night-3", "interrupted"], ["trial", "trial"],
    ]  # fmt: skip


def test_compare_takes_no_trial(store: Path, logprobs: Any) -> None:
    """The newest whole run, with the one before it."""
    said = json.loads(logprobs("compare", store, "--json").out)

    assert (said["run_a"], said["run_b"]) == ("night-1", "night-2")


def test_in_python(store: Path) -> None:
    """A name or a pattern, and a sentence over an empty store."""
    assert ls.open_store(store, runs="night-1").run_names == ["night-1"]
    assert ls.open_store(store, runs="night-*").run_names == ["night-1", "night-2", "night-3"]
    assert ls.open_store(store).newest_run() == "night-2"
    with pytest.raises(RunNotFoundError, match="no run 'x'"):
        ls.open_store(store, runs=["night-1", "x"])
    with pytest.raises(InputError, match="has no run yet"):
        ls.open_store(store, runs=[]).newest_run()
