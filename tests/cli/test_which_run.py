"""Which runs a command reads: the newest finished one, unless `--run` says others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from builders import write_job, write_prompts

import logprob_store as ls
from logprob_store.errors import InputError, RunNotFoundError
from logprob_store.store.lock import take_lock
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


NEWEST = (
    "run night-2, 1 of 4 (--run all: all of them); newer, but passed over: night-3 (interrupted), "
    "trial (a trial of some of its prompts)\n"
)


def runs_of(logprobs: Any, store: Path, *words: str) -> tuple[list[str], str]:
    """The runs that `scores` reads, and what it says of them."""
    done = logprobs("scores", store, *words, "--json")
    assert done.code == 0, done.err
    return sorted({row["run"] for row in json.loads(done.out)}), done.err


def test_the_newest_finished_run_is_read_and_named(store: Path, logprobs: Any) -> None:
    """Not the trial, nor the interrupted one."""
    assert runs_of(logprobs, store) == (["night-2"], NEWEST)


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
    """The newest whole run, with the one before it; it says what was passed over, or ok would be of an old night."""
    done = logprobs("compare", store, "--json")
    said = json.loads(done.out)

    assert (said["run_a"], said["run_b"]) == ("night-1", "night-2")
    assert done.err == NEWEST.replace("run night-2, 1 of 4 (--run all: all of them)", "run night-2 against night-1")


@pytest.fixture
def with_failed_night(store: Path, tmp_path: Path, fault_server: Any) -> Path:
    """The same with a whole night in which both calls failed, the newest run."""
    fault_server.script("400*2")
    ls.run_job(write_job(tmp_path, fault_server.url, cache={"mode": "refresh"}), run="night-4")
    return store


def test_a_run_without_an_answer_is_passed_over(with_failed_night: Path, logprobs: Any) -> None:
    """The line says so, and why it has none."""
    runs, said = runs_of(logprobs, with_failed_night)

    assert runs == ["night-2"]
    assert said.endswith("night-4 (no answer: 2 calls failed: 2 invalid_request)\n")


def test_compare_passes_over_a_run_without_an_answer(with_failed_night: Path, logprobs: Any) -> None:
    """As both the run that may have changed and the one before it."""
    ls.run_job(with_failed_night.parent / "job.toml", run="night-5")
    said = json.loads(logprobs("compare", with_failed_night, "--json").out)

    assert (said["run_a"], said["run_b"]) == ("night-2", "night-5")


@pytest.mark.parametrize(
    "words", [("scores",), ("samples",), ("fields",), ("labels", "--labels", "a,b"), ("sql", "select * from scores")]
)
def test_a_run_without_an_answer_says_why_it_has_none(
    words: tuple[str, ...], with_failed_night: Path, logprobs: Any
) -> None:
    """Where it was asked for by name, an empty table alone would say nothing."""
    done = logprobs(words[0], with_failed_night, *words[1:], "--run", "night-4")

    assert done.err == "run night-4 holds no answer: 2 calls failed: 2 invalid_request\n"


def test_a_run_without_an_answer_cannot_be_compared(with_failed_night: Path, logprobs: Any) -> None:
    """The error names it, why it has none, and what to do."""
    done = logprobs("compare", with_failed_night, "night-1", "night-4")

    assert done.code == 2
    assert done.err.startswith(
        "logprobs: run 'night-4' has nothing to compare: it holds no answer, as 2 calls failed: 2 invalid_request. "
        "Name two runs with answers"
    )


def test_where_no_run_has_an_answer_the_newest_is_read(tmp_path: Path, logprobs: Any, fault_server: Any) -> None:
    """And said to have none, once."""
    write_prompts(tmp_path, {"text": ["a"]})
    fault_server.script("400*2")
    for run in ("one", "two"):
        ls.run_job(write_job(tmp_path, fault_server.url), run=run)
    done = logprobs("scores", tmp_path / "store")

    assert done.err == "run two, no answer: 1 call failed: 1 invalid_request, 1 of 2 (--run all: all of them)\n"


def changed_manifest(store: Path, run: str, **changes: Any) -> None:
    """Write a run's manifest anew with these changes."""
    manifest = read_manifest(path := manifest_path(store, run))
    for name, value in changes.items():
        setattr(manifest, name, value)
    write_manifest(path, manifest)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"state": "finished", "prompts_read": 0}, "none of its prompts was asked (--limit 0)"),
        ({"state": "finished", "inputs": []}, "its prompts files have no row"),
        ({"state": "finished", "passed": {"answered": 2}}, "its calls were passed over by --select: 2 answered"),
        ({"state": "finished", "lost": [(0, 2)]}, "a repair took its rows out, and its job asks them again"),
        ({"state": "running"}, "none was committed; it is crashed"),
        ({"state": "interrupted"}, "none was committed; it is interrupted"),
    ],
)
def test_why_a_run_has_no_answer(store: Path, logprobs: Any, changes: dict[str, Any], why: str) -> None:
    """Each way to be empty has words of its own."""
    changed_manifest(store, "night-1", parts=[], **changes)

    assert logprobs("scores", store, "--run", "night-1").err == f"run night-1 holds no answer: {why}\n"


def test_a_run_under_way_without_a_part_says_so(store: Path, logprobs: Any) -> None:
    """Its answers are committed in parts."""
    changed_manifest(store, "night-1", parts=[], state="running")
    with take_lock(store, "night-1"):
        done = logprobs("scores", store, "--run", "night-1")

    assert done.err == "run night-1 holds no answer: it is running, and none is committed yet\n"


def test_sql_without_a_query_describes_all_runs(store: Path, logprobs: Any) -> None:
    """It reads none, and says once which a query reads."""
    done = logprobs("sql", store)

    assert done.err == ""
    assert done.out.splitlines()[-1] == "a query reads the newest run, night-2, 1 of 4 (--run all: all of them)"


def test_in_python(store: Path) -> None:
    """A name or a pattern, and a sentence over an empty store."""
    assert ls.open_store(store, runs="night-1").run_names == ["night-1"]
    assert ls.open_store(store, runs="night-*").run_names == ["night-1", "night-2", "night-3"]
    assert ls.open_store(store).newest_run() == "night-2"
    with pytest.raises(RunNotFoundError, match="no run 'x'"):
        ls.open_store(store, runs=["night-1", "x"])
    with pytest.raises(InputError, match="has no run yet"):
        ls.open_store(store, runs=[]).newest_run()
