"""A store among another store's files is refused before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from builders import REPO
from store.tried_runs import answered, open_tried

import logprob_store as ls
from logprob_store.errors import StoreError, StoreNotFoundError
from logprob_store.importing.api import import_responses
from logprob_store.job import override
from logprob_store.run.dry_run import dry_run

if TYPE_CHECKING:
    from pathlib import Path

INSIDE = ("tokens", "runs", "runs/run=r", "prompts/run=r/deep/er", "completions/run=r")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with a run."""
    with open_tried(tmp_path / "out") as writer:
        writer.commit(answered(0), settled=[0], prompts_read=1)
        writer.finish("finished")
    return tmp_path / "out"


def names(folder: Path) -> set[Path]:
    """All files and folders below one."""
    return set(folder.rglob("*"))


@pytest.mark.parametrize("inside", INSIDE)
def test_a_run_makes_no_store_inside_another_one(store: Path, tmp_path: Path, inside: str) -> None:
    """Neither the store nor the cache is begun, and a dry run says it as well."""
    job = override(ls.load_job(REPO / "jobs" / "demo.toml"), store=store / inside)
    job = job.model_copy(update={"cache": job.cache.model_copy(update={"path": str(tmp_path / "cache")})})
    before = names(tmp_path)

    for run in (ls.run_job, dry_run):
        with pytest.raises(StoreError, match=f"would be inside the store {store}, among its own files"):
            run(job)

    assert names(tmp_path) == before


@pytest.mark.parametrize("inside", INSIDE)
def test_an_import_makes_no_store_inside_another_one(store: Path, tmp_path: Path, inside: str) -> None:
    """Nothing is written."""
    before = names(tmp_path)

    with pytest.raises(StoreError, match="would be inside the store"):
        import_responses(REPO / "fixtures" / "rich.jsonl", store=store / inside)

    assert names(tmp_path) == before


def test_the_working_directory_may_be_inside_a_store(
    store: Path, monkeypatch: pytest.MonkeyPatch, logprobs: Any
) -> None:
    """A path from there, or through a link, is no way around it."""
    (store.parent / "link").symlink_to(store / "tokens")
    monkeypatch.chdir(store / "tokens")

    for path in ("mine", ".", store.parent / "link" / "mine"):
        done = logprobs("run", REPO / "jobs" / "demo.toml", "--store", path)
        assert done.code == 2
        assert f"inside the store {store}" in done.err


def test_a_store_beside_the_tables_of_another_one_is_allowed(store: Path) -> None:
    """Only the folders that readers look into are that store's own, and folders named like them elsewhere are none."""
    for path in (store / "mine", store.parent / "runs" / "mine", store.parent / "tokens"):
        with open_tried(path) as writer:
            writer.finish("finished")

    assert ls.open_store(store).run_names == ["r"]


def test_a_folder_of_a_store_that_is_opened_is_said_to_be_one(store: Path) -> None:
    """The store is named."""
    with pytest.raises(StoreNotFoundError, match=f"it is inside the store {store}"):
        ls.open_store(store / "tokens")
