"""The manifest proves itself: its checksum, its copy, and the names in it."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from store.tried_runs import answered, open_tried, part_files, shown

from logprob_store.analysis.opened_store import open_store
from logprob_store.errors import SchemaVersionError, StoreError, StoreWarning
from logprob_store.spending.prices import Prices
from logprob_store.store.manifest import Spent, find_manifest, manifest_path, no_manifest, read_manifest, write_manifest
from logprob_store.store.repair import repair_store
from logprob_store.store.verifying import verify_store
from logprob_store.usage import Bill, Usage

FOREIGN_NAMES: dict[str, dict[str, Any]] = {
    "part": {"parts": [{"name": "../../../precious/data", "files": {"tokens": {"rows": 1, "size": 1, "crc32": 1}}}]},
    "table": {"parts": [{"name": "part-00000", "files": {"../precious": {"rows": 1, "size": 1, "crc32": 1}}}]},
    "run": {"run": "../../precious"},
    "other run": {"run": "another"},
    "negative": {"next_part": -1},
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A run of two parts."""
    with open_tried(tmp_path / "store") as writer:
        writer.commit(answered(0), settled=[0], prompts_read=1)
        writer.commit(answered(1), settled=[1], prompts_read=2)
        writer.finish("finished")
    return tmp_path / "store"


@pytest.mark.slow
def test_every_single_bit(store: Path) -> None:
    """Whichever bit of a manifest is flipped, `verify` finds it, and readers see what they saw."""
    path = manifest_path(store, "r")
    raw, manifest = path.read_bytes(), read_manifest(path)

    for bit in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)

        with pytest.raises(StoreError, match="is damaged"):
            read_manifest(path)
        if bit % 500 == 0:
            found = find_manifest(store, "r")
            assert found is not None
            assert found.manifest == manifest
            assert [problem.kind for problem in verify_store(store)] == ["manifest"]


def test_every_single_cut(store: Path) -> None:
    """A manifest that ends too early is damaged, wherever it ends."""
    path = manifest_path(store, "r")
    raw = path.read_bytes()

    for size in range(len(raw)):
        path.write_bytes(raw[:size])
        with pytest.raises(StoreError, match="is damaged"):
            read_manifest(path)


def test_a_manifest_without_a_checksum_is_one_of_version_0_1_0(store: Path) -> None:
    """Older stores are read, and get a checksum with the next write."""
    path = manifest_path(store, "r")
    content = json.loads(path.read_bytes())
    del content["sha256"]
    path.write_text(json.dumps(content))

    with open_tried(store) as writer:
        writer.finish("finished")

    assert "sha256" in json.loads(path.read_bytes())
    assert verify_store(store) == []


@pytest.mark.parametrize("kind", FOREIGN_NAMES)
def test_names_that_lead_elsewhere_are_refused(store: Path, kind: str) -> None:
    """A manifest that somebody else wrote names no file outside its run, for `--repair` to delete or others to read."""
    precious = store.parent / "precious" / "data.parquet"
    precious.parent.mkdir()
    precious.write_bytes(b"mine")
    path = manifest_path(store, "r")
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"sha256": None} | FOREIGN_NAMES[kind]))
    path.with_name("run.json.copy").unlink()

    problems = verify_store(store)
    assert [problem.kind for problem in problems] == ["manifest"]
    assert "cannot be mended" in repair_store(store, problems).not_done[0]

    assert precious.read_bytes() == b"mine"


def test_a_manifest_that_is_gone_is_put_back(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The copy is read, said, and put back when the run goes on; no part is removed."""
    before, files = shown(store), part_files(store)
    manifest_path(store, "r").unlink()

    assert [problem.kind for problem in verify_store(store)] == ["manifest"]
    assert shown(store) == before
    assert "run.json is missing; its copy is read" in caplog.text
    open_tried(store).close()

    assert verify_store(store) == []
    assert (shown(store), part_files(store)) == (before, files)


def test_parts_without_any_manifest_are_kept(store: Path) -> None:
    """Such a run is not begun anew: that would remove its parts."""
    files = part_files(store)
    for name in ("run.json", "run.json.copy"):
        manifest_path(store, "r").with_name(name).unlink()

    (problem,) = verify_store(store)
    assert "is missing, and so is its copy" in problem.what
    with pytest.raises(StoreError, match="to begin it anew would remove them"):
        open_tried(store)

    assert part_files(store) == files


def test_an_older_copy_removes_no_part(store: Path) -> None:
    """Killed between a manifest and its copy, and the manifest damaged later: what only that one lists is kept."""
    path = manifest_path(store, "r")
    older = read_manifest(path)
    older.parts = older.parts[:1]
    older.settled, older.prompts_read = [(0, 1)], 1
    write_manifest(path, older)
    path.unlink()

    open_tried(store).close()

    assert "tokens/run=r/part-00001.parquet.unlisted" in part_files(store)
    assert shown(store)["completions"] == [0]


def test_a_damaged_copy_is_a_problem_too(store: Path) -> None:
    """It is of no use on the day on which it is needed; the repair writes it anew."""
    copy = manifest_path(store, "r").with_name("run.json.copy")
    copy.write_bytes(copy.read_bytes()[:-1])

    problems = verify_store(store)
    assert [problem.path for problem in problems] == [copy]
    repair_store(store, problems)

    assert verify_store(store) == []


def test_sums_beyond_64_bits_break_no_table(store: Path) -> None:
    """Version 0.1.0 added up what a server said that a prompt had taken."""
    path = manifest_path(store, "r")
    manifest = read_manifest(path)
    manifest.counts.prompt_tokens = 1 << 64
    manifest.spent.completion_tokens = 1 << 65
    write_manifest(path, manifest)

    row = open_store(store).runs.collect().row(0, named=True)

    assert (row["prompt_tokens"], row["spent_tokens"]) == ((1 << 63) - 1, (1 << 63) - 1)


PRICES = Prices(1.0, 2.0, tiers={"priority": Prices(2.0, 4.0)})


def test_a_lost_answer_is_no_tiers() -> None:
    """It is reserved as if the dearest tier had served it: 1,000 tokens at twice $1 a million, and 500 at $1."""
    lost = Bill(Usage(1000, tier="priority"))
    spent = Spent.of(2, lost.with_all([Usage(500)]), lost=lost, usd_of=PRICES.usd)

    assert spent.usd_by_tier == pytest.approx({"default": 0.0005, "lost": 0.002})
    assert spent.usd == pytest.approx(0.0025)


def test_a_tier_that_served_nothing_is_not_named() -> None:
    """Where one tier served all, there is nothing to tell apart."""
    spent = Spent.of(1, Bill(Usage(), Usage(1000, tier="priority")), usd_of=PRICES.usd)

    assert spent.usd_by_tier == {}


def test_lost_answers_of_a_run_without_tiers() -> None:
    """Their price is that of the others, and `usd` has it."""
    lost = Bill(Usage(1000))
    spent = Spent.of(2, lost.with_all([Usage(500)]), lost=lost, usd_of=PRICES.usd)

    assert (spent.usd_by_tier, spent.billed) == ({}, [])
    assert spent.bill == Bill(Usage(1500))


@pytest.mark.parametrize("where", ["file", "folder"])
def test_a_manifest_that_may_not_be_read_keeps_no_other_run_from_it(
    store: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """As one of another user, alone or in a folder that may not be looked into."""
    with open_tried(store, "mine") as writer:
        writer.finish("finished")
    real = {name: getattr(Path, name) for name in ("stat", "read_bytes")}

    def refusing(name: str) -> Any:
        def refuse(path: Path, **options: Any) -> Any:
            if path.parent.name == "run=r" and (where == "folder" or name == "read_bytes"):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return real[name](path, **options)

        return refuse

    for name in real:
        monkeypatch.setattr(Path, name, refusing(name))

    with pytest.warns(StoreWarning, match=r"run r of .*run.json cannot be read: Permission denied"):
        opened = open_store(store)

    assert opened.run_names == ["mine"]


def test_advice_to_run_a_job_again_names_the_mode_that_asks_anew(tmp_path: Path) -> None:
    """With `cache.mode = "refresh"` a job asks what is in its cache."""
    assert 'unless cache.mode is "refresh"' in str(no_manifest(tmp_path, "r"))
    assert 'unless cache.mode is "refresh"' in str(SchemaVersionError(tmp_path, 9, 2))
