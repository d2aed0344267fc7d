"""A repaired run takes back its own answers, and no others take their place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from builders import write_job, write_prompts

import logprob_store as ls
from logprob_store.errors import StoreError
from logprob_store.run.dry_run import dry_run
from logprob_store.store.repair import repair_store
from logprob_store.store.verifying import verify_store

if TYPE_CHECKING:
    from pathlib import Path


def damaged_night(folder: Path, url: str, mode: str, *, later: bool) -> ls.Job:
    """A job whose first night lost its answers to damage; a later night has asked the same before."""
    write_prompts(folder, {"text": ["a", "b"]})
    job = ls.load_job(write_job(folder, url, cache={"mode": mode}))
    for run in ["night-1", "night-2"] if later else ["night-1"]:
        ls.run_job(job, run=run)
    (folder / "store" / "tokens" / "run=night-1" / "part-00000.parquet").write_bytes(b"")
    repair_store(folder / "store", verify_store(folder / "store"))
    return job


@pytest.mark.parametrize(("mode", "later"), [("refresh", True), ("off", False)])
def test_answers_of_today_fill_no_hole_of_an_old_run(
    tmp_path: Path, fault_server: Any, mode: str, *, later: bool
) -> None:
    """What is gone from the cache is said before anything is asked."""
    job = damaged_night(tmp_path, fault_server.url, mode, later=later)
    asked = len(fault_server.calls)

    with pytest.raises(StoreError, match="lost 2 answers to damage, and 2 of them are no longer in the cache"):
        ls.run_job(job, run="night-1")

    assert len(fault_server.calls) == asked


@pytest.mark.parametrize(("mode", "later"), [("refresh", False), ("reuse", True)])
def test_a_run_takes_its_own_lost_answers_back(tmp_path: Path, fault_server: Any, mode: str, *, later: bool) -> None:
    """They are in the cache as they were."""
    job = damaged_night(tmp_path, fault_server.url, mode, later=later)

    again = ls.run_job(job, run="night-1")

    assert (again.state, again.calls, again.completions) == ("finished", 0, 2)


def test_a_dry_run_says_what_is_lost_and_what_is_gone(tmp_path: Path, fault_server: Any) -> None:
    """So that it is known before the run is refused."""
    job = damaged_night(tmp_path, fault_server.url, "refresh", later=True)

    estimate = dry_run(job, run="night-1")

    assert (estimate.lost, estimate.gone, estimate.to_ask) == (2, 2, 2)
    assert "the run lost 2 answers to damage: the cache still has 0, 2 are gone" in estimate.sentence


def test_another_run_may_begin_beside_one_with_a_hole(tmp_path: Path, fault_server: Any) -> None:
    """The error names the option."""
    job = damaged_night(tmp_path, fault_server.url, "refresh", later=True)

    assert ls.run_job(job, run="night-1", new=True).run == "night-1.2"
