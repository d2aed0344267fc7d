"""A repaired run takes back its own answers, and no others take their place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from builders import write_job, write_prompts

import logprob_store as ls
from logprob_store.errors import StoreError
from logprob_store.run.dry_run import dry_run
from logprob_store.store.manifest import manifest_path, read_manifest
from logprob_store.store.repair import repair_store
from logprob_store.store.verifying import verify_store

if TYPE_CHECKING:
    from pathlib import Path


def damaged_night(folder: Path, url: str, mode: str, *, nights: int) -> ls.Job:
    """A job whose first night lost its answers to damage, after all its nights."""
    write_prompts(folder, {"text": ["a", "b"]})
    job = ls.load_job(write_job(folder, url, cache={"mode": mode}))
    for night in range(nights):
        ls.run_job(job, run=f"night-{night + 1}")
    damage_first_night(folder)
    return job


def damage_first_night(folder: Path) -> None:
    """Take the answers of the first night out."""
    (folder / "store" / "tokens" / "run=night-1" / "part-00000.parquet").write_bytes(b"")
    repair_store(folder / "store", verify_store(folder / "store"))


@pytest.mark.parametrize(("mode", "nights"), [("refresh", 2), ("off", 1)])
def test_answers_of_today_fill_no_hole_of_an_old_run(tmp_path: Path, fault_server: Any, mode: str, nights: int) -> None:
    """What is gone from the cache is said before anything is asked."""
    job = damaged_night(tmp_path, fault_server.url, mode, nights=nights)
    asked = len(fault_server.calls)

    with pytest.raises(StoreError, match="lost 2 answers to damage, and 2 of them are no longer in the cache"):
        ls.run_job(job, run="night-1")

    assert len(fault_server.calls) == asked


@pytest.mark.parametrize(("mode", "nights"), [("refresh", 1), ("reuse", 2)])
def test_a_run_takes_its_own_lost_answers_back(tmp_path: Path, fault_server: Any, mode: str, nights: int) -> None:
    """They are in the cache as they were."""
    job = damaged_night(tmp_path, fault_server.url, mode, nights=nights)

    again = ls.run_job(job, run="night-1")

    assert (again.state, again.calls, again.completions) == ("finished", 0, 2)


def test_a_dry_run_says_what_is_lost_and_what_is_gone(tmp_path: Path, fault_server: Any) -> None:
    """So that it is known before the run is refused."""
    job = damaged_night(tmp_path, fault_server.url, "refresh", nights=2)

    estimate = dry_run(job, run="night-1")

    assert (estimate.lost, estimate.gone, estimate.to_ask, estimate.settled) == (2, 2, 0, 0)
    assert estimate.refused
    assert "the run lost 2 answers to damage: the cache still has 0, 2 are gone" in estimate.sentence


def test_another_run_may_begin_beside_one_with_a_hole(tmp_path: Path, fault_server: Any) -> None:
    """The error names the option."""
    job = damaged_night(tmp_path, fault_server.url, "refresh", nights=2)

    assert ls.run_job(job, run="night-1", new=True).run == "night-1.2"


def test_an_unfinished_run_goes_on_without_what_is_gone(
    tmp_path: Path, fault_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Its other prompts are asked; the next time nothing is left to do, and it is refused."""
    write_prompts(tmp_path, {"text": ["a", "b", "c", "d"]})
    job = ls.load_job(write_job(tmp_path, fault_server.url, cache={"mode": "refresh"}))
    ls.run_job(job, run="night-1", limit=2)
    ls.run_job(job, run="night-2")
    damage_first_night(tmp_path)
    estimate = dry_run(job, run="night-1")

    again = ls.run_job(job, run="night-1")

    assert (estimate.gone, estimate.to_ask, estimate.refused) == (2, 2, False)
    assert "the run goes on without these" in estimate.sentence
    assert (again.state, again.calls, again.completions, again.not_reached) == ("finished", 2, 2, 2)
    assert ls.open_store(again.store, runs="night-1").completions.collect()["prompt_index"].to_list() == [2, 3]
    assert "2 of them are no longer in the cache" in caplog.text
    assert verify_store(again.store) == []
    with pytest.raises(StoreError, match="Nothing was asked"):
        ls.run_job(job, run="night-1")


def test_what_the_cache_has_is_taken_back_though_the_rest_is_gone(tmp_path: Path, fault_server: Any) -> None:
    """A later night asked the first prompt alone."""
    write_prompts(tmp_path, {"text": ["a", "b"]})
    job = ls.load_job(write_job(tmp_path, fault_server.url, cache={"mode": "refresh"}))
    ls.run_job(job, run="night-1")
    ls.run_job(job, run="night-2", limit=1)
    damage_first_night(tmp_path)

    again = ls.run_job(job, run="night-1")

    assert (again.calls, again.completions) == (0, 1)


def test_lost_failures_are_asked_again_as_any_failure(tmp_path: Path, fault_server: Any) -> None:
    """No answer of the run is lost with them, and none of its answers is taken out."""
    fault_server.script("400")
    write_prompts(tmp_path, {"text": ["a", "b", "c"]})
    job = ls.load_job(write_job(tmp_path, fault_server.url, limits={"concurrency": 1}, cache={"mode": "refresh"}))
    first = ls.run_job(job, run="r")
    next((tmp_path / "store" / "failures" / "run=r").glob("*.parquet")).unlink()

    (said,) = repair_store(tmp_path / "store", verify_store(tmp_path / "store")).done
    open_failures = read_manifest(manifest_path(tmp_path / "store", "r")).counts.failures
    again = ls.run_job(job, run="r")

    assert (first.completions, first.failures) == (2, 1)
    assert "answers lost: 0, failures lost: 1" in said
    assert open_failures == 0
    assert (again.state, again.calls, again.completions, again.failures) == ("finished", 1, 3, 0)


@pytest.mark.parametrize(
    ("damaged", "lost"),
    [(("tokens",), "answers lost: 2."), (("tokens", "failures"), "answers lost: 2, failures lost: 1")],
)
def test_lost_answers_and_lost_failures_are_counted_apart(
    tmp_path: Path, fault_server: Any, damaged: tuple[str, ...], lost: str
) -> None:
    """A failure stays where only answers are damaged."""
    fault_server.script("400")
    write_prompts(tmp_path, {"text": ["a", "b", "c"]})
    job = ls.load_job(write_job(tmp_path, fault_server.url, limits={"concurrency": 1}))
    ls.run_job(job, run="r")
    for table in damaged:
        for path in (tmp_path / "store" / table / "run=r").glob("*.parquet"):
            path.write_bytes(b"")

    (said,) = repair_store(tmp_path / "store", verify_store(tmp_path / "store")).done

    assert lost in said
    assert ls.open_store(tmp_path / "store").failures.collect().height == (damaged == ("tokens",))
