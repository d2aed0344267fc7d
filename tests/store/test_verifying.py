"""Verification of a store, and its repair."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import logprob_store as ls
from logprob_store.errors import StoreError, StoreNotFoundError
from logprob_store.store.verifying import repair_store, verify_store

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from logprob_store.job import Job

REPO = Path(__file__).parents[2]
TABLES = ("prompts", "completions", "tokens", "alternatives")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """The demo's job, its answers in some ten parts."""
    folder = tmp_path_factory.mktemp("job")
    shutil.copytree(REPO / "fixtures", folder / "fixtures")
    text = (REPO / "jobs" / "demo.toml").read_text(encoding="utf-8").replace("../", "")
    (folder / "demo.toml").write_text(text + "part_bytes = 100_000\n[limits]\nconcurrency = 2\n", encoding="utf-8")
    return ls.load_job(folder / "demo.toml")


@pytest.fixture
def store(job: Job, tmp_path: Path) -> Path:
    """The demo's store, finished."""
    path = job.resolve(job.store.path)
    if not path.exists():
        ls.run_job(job, run="r")
    return Path(shutil.copytree(path, tmp_path / "store"))


def rows(store: Path) -> dict[str, pl.DataFrame]:
    """All rows of the store's tables, in order."""
    opened = ls.open_store(store)
    return {name: frame.sort(frame.columns[:5]) for name in TABLES for frame in [getattr(opened, name).collect()]}


def flip(path: Path) -> None:
    """Change one byte in the middle."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(raw)


def cut(path: Path) -> None:
    """Cut the file short."""
    path.write_bytes(path.read_bytes()[:-100])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped": (flip, "its checksum is"),
    "cut": (cut, "the manifest says"),
    "deleted": (Path.unlink, "is missing"),
}


def test_a_whole_store_has_no_problem(store: Path) -> None:
    """A store that was just written has no problem, and has several parts."""
    assert verify_store(store) == []
    assert len(list(store.glob("tokens/run=r/*.parquet"))) > 5


def test_no_store(tmp_path: Path) -> None:
    """A folder that is no store is an error."""
    with pytest.raises(StoreNotFoundError):
        verify_store(tmp_path)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("table", TABLES)
def test_damage_is_named_and_mended(store: Path, job: Job, table: str, damage: str) -> None:
    """Any damage to any table's file is found by name; repaired and run again, all rows are as they were."""
    expected = rows(store)
    spoil, said = DAMAGES[damage]
    victim = sorted((store / table / "run=r").glob("*.parquet"))[:4][-1]
    spoil(victim)

    problems = verify_store(store)
    assert [(problem.part, problem.path) for problem in problems] == [(victim.stem, victim)]
    assert said in problems[0].what
    repair_store(store, problems)
    assert verify_store(store) == []
    again = ls.run_job(job.model_copy(update={"store": job.store.model_copy(update={"path": str(store)})}), run="r")

    assert again.state == "finished"
    assert again.already < 243 or table == "prompts"
    actual = rows(store)
    assert [name for name in TABLES if not actual[name].equals(expected[name])] == []


def test_a_damaged_manifest_is_replaced_by_the_one_before(store: Path, job: Job) -> None:
    """Without a readable manifest the previous one stands in, and the job fills in the rest."""
    expected = rows(store)
    (store / "runs" / "run=r" / "run.json").write_text("{", encoding="utf-8")

    problems = verify_store(store)
    assert [problem.part for problem in problems] == [None]
    repair_store(store, problems)
    ls.run_job(job.model_copy(update={"store": job.store.model_copy(update={"path": str(store)})}), run="r")

    assert verify_store(store) == []
    actual = rows(store)
    assert [name for name in TABLES if not actual[name].equals(expected[name])] == []


def test_a_manifest_that_nothing_can_replace(store: Path) -> None:
    """With both manifests damaged, the error says what to delete."""
    for name in ("run.json", "run.json.previous"):
        (store / "runs" / "run=r" / name).write_text("{", encoding="utf-8")

    with pytest.raises(StoreError, match="Delete the folders run=r"):
        repair_store(store, verify_store(store))


def test_rows_out_of_order_are_found(store: Path) -> None:
    """A part whose rows are not sorted is a problem even if its checksum were right."""
    from logprob_store.store.manifest import manifest_path, read_manifest, write_manifest
    from logprob_store.store.verifying import _checksum

    victim = store / "tokens" / "run=r" / "part-00002.parquet"
    import pyarrow.parquet as pq

    table = pq.read_table(victim)
    pq.write_table(table.take(list(range(len(table)))[::-1]), victim)
    manifest = read_manifest(manifest_path(store, "r"))
    listed = manifest.parts[2].files["tokens"]
    listed.crc32, listed.size = _checksum(victim)
    write_manifest(manifest_path(store, "r"), manifest)

    assert ["is not sorted" in problem.what for problem in verify_store(store)] == [True]
