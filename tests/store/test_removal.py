"""Removing a run: whole, safe at a kill at any step, and nothing but that run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from store.tried_runs import answered, failed, open_tried, part_files, shown

from logprob_store.analysis.opened_store import open_store
from logprob_store.errors import RunLockedError, RunNotFoundError, StoreError
from logprob_store.store.removal import remove_run, run_files
from logprob_store.store.repair import repair_store
from logprob_store.store.run_folders import removed_folder
from logprob_store.store.verifying import verify_store

if TYPE_CHECKING:
    from collections.abc import Callable


class _Killed(BaseException):
    """Stands for kill -9."""


def two_runs(store: Path) -> None:
    """The runs `r` and `r1`, with rows in all tables."""
    for run in ("r", "r1"):
        with open_tried(store, run) as writer:
            writer.commit({**answered(0), "failures": failed(1)}, settled=[0, 1], prompts_read=1)
            writer.finish("finished")


def all_names(store: Path) -> set[str]:
    """All files and folders of a store."""
    return {str(path.relative_to(store)) for path in store.rglob("*")}


def test_a_run_is_removed_whole_and_no_other(tmp_path: Path) -> None:
    """No file and no folder of it is left, and a run whose name begins alike is as it was."""
    two_runs(tmp_path)
    others = {name for name in all_names(tmp_path) if "run=r1" in name}

    remove_run(tmp_path, "r")

    assert {name for name in all_names(tmp_path) if "=" in name} == others
    assert open_store(tmp_path).run_names == ["r1"]
    assert verify_store(tmp_path) == []


def test_a_removed_run_can_begin_anew(tmp_path: Path) -> None:
    """The name is free again, also for another job."""
    two_runs(tmp_path)

    remove_run(tmp_path, "r")
    with open_tried(tmp_path, "r", job={"model.name": "other"}) as writer:
        writer.commit(answered(5), settled=[5])

    assert open_store(tmp_path, runs=["r"]).completions.collect()["prompt_index"].unique().to_list() == [5]


def test_a_run_that_is_written_is_not_removed(tmp_path: Path) -> None:
    """The lock of its writer is respected."""
    two_runs(tmp_path)
    before = all_names(tmp_path)

    with open_tried(tmp_path, "r"), pytest.raises(RunLockedError):
        remove_run(tmp_path, "r")

    assert all_names(tmp_path) == before


@pytest.mark.parametrize("name", ["x", "", "..", "r*", "r/../r1"])
def test_only_runs_are_removed(tmp_path: Path, name: str) -> None:
    """A name that is no run's removes nothing."""
    two_runs(tmp_path)
    before = all_names(tmp_path)

    with pytest.raises(RunNotFoundError, match="it has: r, r1"):
        remove_run(tmp_path, name)

    assert all_names(tmp_path) == before


def test_links_are_not_followed(tmp_path: Path) -> None:
    """What a planted link leads to is not the run's, whether it stands for a folder of rows or among them."""
    store, mine = tmp_path / "store", tmp_path / "mine"
    two_runs(store)
    mine.mkdir()
    (mine / "part-00000.parquet").write_text("precious")
    shutil.rmtree(store / "tokens" / "run=r")
    (store / "tokens" / "run=r").symlink_to(mine)
    (store / "prompts" / "run=r" / "link").symlink_to(mine)

    remove_run(store, "r")

    assert (mine / "part-00000.parquet").read_text() == "precious"
    assert not [path for path in store.rglob("*") if path.is_symlink()]


def test_a_linked_run_is_refused(tmp_path: Path) -> None:
    """Its manifest is that of another store."""
    two_runs(tmp_path / "a")
    (tmp_path / "b" / "runs").mkdir(parents=True)
    (tmp_path / "b" / "runs" / "run=r").symlink_to(tmp_path / "a" / "runs" / "run=r")

    with pytest.raises(StoreError, match=r"is a link to .*: remove the run in the store that it is in"):
        remove_run(tmp_path / "b", "r")

    assert open_store(tmp_path / "a").run_names == ["r", "r1"]


@pytest.mark.parametrize("damage", ["manifests", "folder"])
def test_a_run_without_a_manifest_is_removed(tmp_path: Path, damage: str) -> None:
    """Rows that nothing lists are what one wants to be rid of."""
    two_runs(tmp_path)
    for path in (tmp_path / "runs" / "run=r").glob("run.json*"):
        path.unlink()
    if damage == "folder":
        shutil.rmtree(tmp_path / "runs" / "run=r")

    remove_run(tmp_path, "r")

    assert verify_store(tmp_path) == []
    assert all("run=r1" in name for name in part_files(tmp_path))


def steps_of(monkeypatch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Die before the step with this number of those that reach the disk; returns the steps as they are taken."""
    steps: list[str] = []

    def counted(name: str, really: Callable[..., Any]) -> Callable[..., Any]:
        def step(*words: Any, **options: Any) -> Any:
            if len(steps) == number:
                raise _Killed
            steps.append(name)
            return really(*words, **options)

        return step

    for module, name in ((Path, "rename"), (os, "unlink"), (os, "rmdir"), (os, "fsync")):
        monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
    return steps


def removed_up_to(store: Path, number: int) -> bool:
    """Remove the run `r` and die before a step; whether that step was reached."""
    with pytest.MonkeyPatch.context() as patched:
        steps = steps_of(patched, number)
        try:
            remove_run(store, "r")
        except _Killed:
            return True
        return len(steps) > number


def go_on(store: Path, how: str) -> None:
    """Finish a removal that was broken off."""
    if how == "rm":
        remove_run(store, "r")
    elif how == "repair":
        repair_store(store, verify_store(store))
    else:
        open_tried(store, "r", job={"model.name": "other"}).close()


@pytest.mark.slow
@pytest.mark.parametrize("then", ["rm", "repair", "run"])
def test_a_kill_at_any_step_leaves_a_run_or_none(tmp_path: Path, then: str) -> None:
    """Readers see the run as it was or not at all; `verify` says what to do, and each way to go on finishes it."""
    for number in range(100):
        store = tmp_path / str(number)
        two_runs(store)
        before = shown(store)
        if not removed_up_to(store, number):
            break
        problems = verify_store(store)
        if open_store(store).run_names == ["r", "r1"]:
            assert (problems, shown(store)) == ([], before)
            continue
        if removed_folder(store, "r").exists():
            assert [problem.kind for problem in problems] == ["removal"]
            assert "`logprobs rm" in str(problems[0])
            go_on(store, then)
        assert verify_store(store) == []
        assert not run_files(store, "r") or then == "run"
        assert not [name for name in part_files(store) if "run=r/" in name]
    else:
        pytest.fail("the removal never ended")
    assert number > 20
