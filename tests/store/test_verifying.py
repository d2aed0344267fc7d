"""Verification of a store, and its repair."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import logprob_store as ls
from logprob_store.errors import RunNotFoundError, StoreNotFoundError
from logprob_store.store.durable_files import checksum
from logprob_store.store.manifest import manifest_path, part_path, read_manifest, write_manifest
from logprob_store.store.repair import repair_store
from logprob_store.store.verifying import verify_store

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from logprob_store.job import Job
    from logprob_store.store.manifest import Manifest

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


def test_a_damaged_manifest_is_replaced_by_its_copy(store: Path) -> None:
    """Without a readable manifest the copy stands in, for readers too, and no row is missing."""
    expected = rows(store)
    (store / "runs" / "run=r" / "run.json").write_text("{", encoding="utf-8")

    problems = verify_store(store)
    assert [problem.kind for problem in problems] == ["manifest"]
    assert [name for name, table in rows(store).items() if not table.equals(expected[name])] == []
    repair_store(store, problems)

    assert verify_store(store) == []
    assert [name for name, table in rows(store).items() if not table.equals(expected[name])] == []


def test_a_manifest_that_nothing_can_replace(store: Path) -> None:
    """With both manifests damaged, it is said which line removes the run."""
    for name in ("run.json", "run.json.copy"):
        (store / "runs" / "run=r" / name).write_text("{", encoding="utf-8")

    (problem,) = verify_store(store)

    assert f"`logprobs rm {store} r` removes the run" in problem.what
    assert repair_store(store, [problem]).not_done == ["run r cannot be mended"]


def test_rows_out_of_order_are_found(store: Path) -> None:
    """A part whose rows are not sorted is a problem even if its checksum were right."""
    victim = store / "tokens" / "run=r" / "part-00002.parquet"
    table = pq.read_table(victim)
    pq.write_table(table.take(list(range(len(table)))[::-1]), victim)
    list_as_it_is(store, "tokens", "part-00002")

    assert ["is not sorted" in problem.what for problem in verify_store(store)] == [True]


def list_as_it_is(store: Path, table: str, part: str) -> None:
    """Let the manifest list a file with the size and checksum that it has now."""
    path = manifest_path(store, "r")
    manifest = read_manifest(path)
    listed = next(one for one in manifest.parts if one.name == part).files[table]
    with part_path(store, table, "r", part).open("rb") as file:
        listed.crc32, listed.size = checksum(file)
    listed.rows = pq.read_metadata(part_path(store, table, "r", part)).num_rows
    manifest.counts.alternatives = sum(
        one.files["alternatives"].rows for one in manifest.parts if "alternatives" in one.files
    )
    write_manifest(path, manifest)


def test_a_part_in_the_place_of_another_is_found(store: Path) -> None:
    """A file says of which run and part it is: another part, listed with its checksum, is no substitute."""
    one, other = sorted((store / "alternatives" / "run=r").glob("*.parquet"))[:2]
    shutil.copy(one, other)
    list_as_it_is(store, "alternatives", other.stem)

    (problem,) = verify_store(store)

    assert (problem.part, problem.path) == (other.stem, other)
    assert problem.what.startswith(f"is {one.stem} of the run with the id")


def test_answers_under_the_number_of_another_prompt_are_found(store: Path) -> None:
    """Two prompts whose answers changed places, in files that are otherwise in order."""
    victim = store / "completions" / "run=r" / "part-00001.parquet"
    table = pq.read_table(victim)
    ids = table["prompt_id"].to_pylist()
    swapped = pa.array([ids[1], ids[0], *ids[2:]], table.schema.field("prompt_id").type)
    pq.write_table(table.set_column(table.schema.get_field_index("prompt_id"), "prompt_id", swapped), victim)
    list_as_it_is(store, "completions", "part-00001")

    (problem,) = verify_store(store)

    assert problem.kind == "rows"
    assert all(prompt in problem.what for prompt in ids[:2])


CONTRADICTIONS: dict[str, tuple[Callable[[Manifest], object], str]] = {
    "more settled": (lambda manifest: manifest.settled.append((250, 251)), "calls have an outcome"),
    "less settled": (lambda manifest: manifest.settled.__setitem__(0, (0, 240)), "calls have an outcome"),
    "others settled": (lambda manifest: manifest.settled.__setitem__(0, (1, 244)), "or others"),
    "prompts read": (lambda manifest: setattr(manifest, "prompts_read", 242), "242 prompts have a row, and 243 have"),
    "tokens": (lambda manifest: setattr(manifest.counts, "tokens", 1), "counts 1 tokens"),
    "next part": (lambda manifest: setattr(manifest, "next_part", 1), "gives the next part the number 1"),
}


@pytest.mark.parametrize("wrong", CONTRADICTIONS)
def test_what_the_rows_contradict_is_found_and_mended(store: Path, wrong: str) -> None:
    """A manifest that is whole and says what the rows do not; the repair takes the word of the rows."""
    path = manifest_path(store, "r")
    right = read_manifest(path)
    change, said = CONTRADICTIONS[wrong]
    change(manifest := read_manifest(path))
    write_manifest(path, manifest)

    (problem,) = verify_store(store)
    assert said in str(problem)
    repair_store(store, [problem])

    assert verify_store(store) == []
    mended = read_manifest(path)
    assert (mended.settled, mended.prompts_read, mended.counts) == (right.settled, right.prompts_read, right.counts)


def test_counts_are_as_before_once_a_damaged_part_came_back(store: Path, job: Job) -> None:
    """What a part added to the manifest's counts goes with it, so that nothing is counted twice."""
    before = read_manifest(manifest_path(store, "r")).counts
    flip(store / "tokens" / "run=r" / "part-00003.parquet")

    repair_store(store, verify_store(store))
    ls.run_job(job.model_copy(update={"store": job.store.model_copy(update={"path": str(store)})}), run="r")

    assert read_manifest(manifest_path(store, "r")).counts == before


def test_a_run_that_is_not_there(store: Path) -> None:
    """A name that the store does not have is an error, not a store without problems."""
    with pytest.raises(RunNotFoundError, match="no run 'typo'"):
        verify_store(store, runs=["typo"])


def test_a_file_that_no_manifest_lists_is_found_and_set_aside(store: Path) -> None:
    """Other engines, which read all files of a folder, would see its rows twice."""
    expected = rows(store)
    stray = store / "tokens" / "run=r" / "part-00900.parquet"
    shutil.copy(store / "tokens" / "run=r" / "part-00001.parquet", stray)

    (problem,) = verify_store(store)
    assert (problem.kind, problem.path) == ("unlisted", stray)
    repair_store(store, [problem])

    assert verify_store(store) == []
    assert stray.with_name("part-00900.parquet.unlisted").exists()
    assert [name for name, table in rows(store).items() if not table.equals(expected[name])] == []


def test_a_part_that_is_a_link_is_found(store: Path, tmp_path: Path) -> None:
    """What it leads to may change or go without a word."""
    victim = store / "tokens" / "run=r" / "part-00001.parquet"
    victim.rename(tmp_path / "elsewhere.parquet")
    victim.symlink_to(tmp_path / "elsewhere.parquet")

    (problem,) = verify_store(store)

    assert problem.what == f"is a link to {tmp_path / 'elsewhere.parquet'}"


def test_a_pipe_in_the_place_of_a_manifest_is_not_waited_for(store: Path) -> None:
    """It is damage, and the copy stands in."""
    path = manifest_path(store, "r")
    path.unlink()
    os.mkfifo(path)

    problems = verify_store(store)
    assert [problem.kind for problem in problems] == ["manifest"]
    repair_store(store, problems)

    assert verify_store(store) == []
