"""Opening a run: one writer at a time, the same job, a valid name, and a manifest that can be read."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
from store.tried_runs import answered, failed, listed_files, open_tried, part_files

from logprob_store.analysis.opened_store import open_store
from logprob_store.errors import (
    DiskError,
    InputError,
    RunChangedError,
    RunLockedError,
    SchemaVersionError,
    StoreError,
)
from logprob_store.store import opening
from logprob_store.store.lock import is_being_written
from logprob_store.store.manifest import Input, Spent, manifest_path, read_manifest, write_manifest

if TYPE_CHECKING:
    from pathlib import Path


def test_two_writers_in_one_process(tmp_path: Path) -> None:
    """The second is refused until the first is closed; another run is free."""
    with open_tried(tmp_path):
        with pytest.raises(RunLockedError, match="another process"):
            open_tried(tmp_path)
        open_tried(tmp_path, "other").close()
    open_tried(tmp_path).close()


def test_two_processes_and_a_killed_one(tmp_path: Path) -> None:
    """A run that another process writes is refused; when that process is killed -9 the run is free."""
    program = """
        import sys
        from pathlib import Path
        from logprob_store.store.opening import open_run
        with open_run(Path(sys.argv[1]), "r", job_name="tried", job={}, inputs=[], samples=1):
            print("open", flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(RunLockedError, match="run 'r' is being written"):
            open_tried(tmp_path, job={}, inputs=[])
        process.send_signal(signal.SIGKILL)
        process.wait(5)

    open_tried(tmp_path, job={}, inputs=[]).close()


def test_a_changed_job_is_told_line_by_line(tmp_path: Path) -> None:
    """The error lists what changed in the job and in the prompts, and the run stays as it was."""
    inputs = [Input("a.parquet", 1, 10, "x"), Input("b.parquet", 2, 20, "y")]
    open_tried(tmp_path, inputs=inputs).close()
    before = (tmp_path / "runs" / "run=r" / "run.json").read_bytes()
    job = {"model.name": "n", "model.params.temperature": 0, "model.params.seed": 1}

    with pytest.raises(RunChangedError, match="--run NAME") as caught:
        open_tried(tmp_path, job=job, inputs=[Input("a.parquet", 1, 10, "z"), Input("c.parquet", 3, 30, "w")])

    assert caught.value.differences == [
        "model.name is 'n', was 'm'",
        "model.params.seed is 1, was None",
        "prompts file a.parquet has other content (1 row, was 1)",
        "prompts file b.parquet is gone",
        "prompts file c.parquet is new",
    ]
    assert (tmp_path / "runs" / "run=r" / "run.json").read_bytes() == before
    open_tried(tmp_path, inputs=inputs).close()


@pytest.mark.parametrize("run", ["", ".", "..", "a/b", "../x", "a b", "a\n", "é", "x" * 129, "a\x00"])
def test_run_names_that_are_no_folder_names(tmp_path: Path, run: str) -> None:
    """A run's name is a folder's name and nothing that leads elsewhere."""
    with pytest.raises(InputError, match="run name"):
        open_tried(tmp_path / "store", run)

    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("version", [0, 1, 3])
def test_another_schema_version(tmp_path: Path, version: object) -> None:
    """Reading or writing a store of another version is an error that names both."""
    open_tried(tmp_path).close()
    path = tmp_path / "runs" / "run=r" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": version, "new": 1}))

    for attempt in (open_tried, open_store):
        with pytest.raises(SchemaVersionError, match=f"has schema version {version}, this .* reads version 2"):
            attempt(tmp_path)


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b"null", b"{}", b'{"schema_version":"2"}', b'{"schema_version":2}', b"\xff\xfe"]
)
def test_a_damaged_manifest(tmp_path: Path, damage: bytes) -> None:
    """Without a copy, the error names the file and says what to do; nothing is removed."""
    with open_tried(tmp_path) as writer:
        writer.commit(answered(0), settled=[0])
    before = part_files(tmp_path)
    (tmp_path / "runs" / "run=r" / "run.json").write_bytes(damage)
    (tmp_path / "runs" / "run=r" / "run.json.copy").unlink()

    for attempt in (open_tried, open_store):
        with pytest.raises(StoreError, match=r"run\.json") as caught:
            attempt(tmp_path)
        assert damage.startswith((b"[]", b"null")) or "is damaged" in str(caught.value)
    assert part_files(tmp_path) == before


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    """Where a file stands in the way, the error names the store."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="file/store cannot be written"):
        open_tried(tmp_path / "file" / "store")


def test_other_runs_are_left_alone(tmp_path: Path) -> None:
    """Opening a run removes its own leftovers, not those of a run whose name begins alike."""
    with open_tried(tmp_path, "r1") as writer:
        writer.commit(answered(0), settled=[0])
    open_tried(tmp_path, "r").close()
    folder = tmp_path / "tokens" / "run=r"
    folder.mkdir()
    (folder / "part-00007.parquet").write_bytes(b"left over")
    (folder / "notes.txt").write_text("mine")

    open_tried(tmp_path, "r").close()

    assert {"tokens/run=r/notes.txt", "tokens/run=r1/part-00000.parquet"} <= part_files(tmp_path)
    assert "tokens/run=r/part-00007.parquet" not in part_files(tmp_path)


def test_a_deleted_lock_file_lets_no_second_writer_in(tmp_path: Path) -> None:
    """The folder is locked too: a "stale lock" that somebody cleans up changes nothing."""
    with open_tried(tmp_path) as writer:
        (tmp_path / "runs" / "run=r" / "lock").unlink()
        with pytest.raises(RunLockedError):
            open_tried(tmp_path)
        assert is_being_written(tmp_path, "r")
        writer.commit(answered(0), settled=[0])

    open_tried(tmp_path).close()


def test_a_file_system_that_locks_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock file alone keeps others out; once it was deleted, the first writer writes no more."""
    really = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, "as NFS says")
        really(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with open_tried(tmp_path) as first:
        with pytest.raises(RunLockedError):
            open_tried(tmp_path)
        (tmp_path / "runs" / "run=r" / "lock").unlink()
        with open_tried(tmp_path) as second:
            second.commit(answered(1), settled=[1])
        files = part_files(tmp_path)
        with pytest.raises(DiskError, match="deleted and made anew"):
            first.commit(answered(0), settled=[0])

    assert part_files(tmp_path) == files


def test_a_folder_that_was_moved_away_is_written_no_more(tmp_path: Path) -> None:
    """Its writer would list its parts in the manifest of whoever began the run anew."""
    with open_tried(tmp_path) as first:
        (tmp_path / "runs" / "run=r").rename(tmp_path / "elsewhere")
        with open_tried(tmp_path) as second:
            second.commit(answered(1), settled=[1])
        with pytest.raises(DiskError, match="made anew"):
            first.commit(answered(0), settled=[0])

    assert listed_files(tmp_path) == part_files(tmp_path)


def test_a_table_folder_that_is_a_link_loses_nothing(tmp_path: Path) -> None:
    """The files behind it are those of another run, and not leftovers of this one."""
    with open_tried(tmp_path, "a") as writer:
        writer.commit(answered(0), settled=[0])
    open_tried(tmp_path, "b").close()
    (tmp_path / "tokens" / "run=b").symlink_to("run=a")
    files = part_files(tmp_path)

    with pytest.raises(StoreError, match="is a link to run=a"):
        open_tried(tmp_path, "b")

    assert part_files(tmp_path) == files


def test_a_file_of_another_run_is_no_leftover(tmp_path: Path) -> None:
    """Copied into the wrong folder, it is refused, not removed."""
    for run in ("a", "b"):
        with open_tried(tmp_path, run) as writer:
            writer.commit(answered(0), settled=[0])
    stray = tmp_path / "tokens" / "run=b" / "part-00001.parquet"
    shutil.copy(tmp_path / "tokens" / "run=a" / "part-00000.parquet", stray)

    with pytest.raises(StoreError, match="is a file of another run"):
        open_tried(tmp_path, "b")

    assert stray.exists()


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    """A link under a temporary name is replaced; what it leads to is not written."""
    mine = tmp_path / "mine"
    mine.write_text("precious")
    store = tmp_path / "store"
    with open_tried(store) as writer:
        for planted in ("runs/run=r/.run.json.tmp", "tokens/run=r/.part-00000.parquet.tmp"):
            (store / planted).parent.mkdir(parents=True, exist_ok=True)
            (store / planted).symlink_to(mine)
        writer.commit(answered(0), settled=[0])

    assert mine.read_text() == "precious"
    assert listed_files(store) == part_files(store)


def test_files_are_for_nobody_else(tmp_path: Path) -> None:
    """Prompts and answers are readable by their owner alone, whatever the umask; a job may widen that."""
    for store, mode in ((tmp_path / "own", 0o600), (tmp_path / "shared", 0o640)):
        with open_tried(store, file_mode=mode) as writer:
            writer.commit(answered(0), settled=[0])

        files = [path for path in store.rglob("*") if path.is_file() and path.name != "lock"]
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {mode}
        assert len(files) == 6


OLD, NEW = {"model.name": "a", "prompts.template": "a"}, {"model.name": "b", "prompts.template": "b"}


def fail_once(store: Path, state: str = "finished") -> None:
    """A run of one call, which failed, as its session ended."""
    with open_tried(store, job=OLD) as writer:
        writer.commit({"prompts": answered(0)["prompts"], "failures": failed(0)}, settled=[0], prompts_read=1)
        writer.manifest.spent = Spent(requests=1, prompt_tokens=7)
        if state != "crashed":
            writer.finish(state)


@pytest.mark.parametrize("state", ["finished", "stopped", "interrupted"])
def test_a_run_without_an_answer_takes_another_job(tmp_path: Path, state: str) -> None:
    """What failed is asked anew: no call is settled, no row is left, and what was spent stays spent."""
    fail_once(tmp_path, state)

    with open_tried(tmp_path, job=NEW) as writer:
        manifest = writer.manifest
        assert (manifest.job, manifest.settled, manifest.parts, manifest.prompts_read) == (NEW, [], [], 0)
        assert (writer.open_failures, manifest.spent.prompt_tokens) == ({}, 7)
    assert part_files(tmp_path) == set()


def test_a_run_without_an_answer_takes_other_prompts(tmp_path: Path) -> None:
    """Another file, and another number of samples."""
    fail_once(tmp_path)
    other = Input("other.parquet", 5, 50, "digest")

    with open_tried(tmp_path, job=OLD, inputs=[other], samples=3) as writer:
        assert (writer.manifest.inputs, writer.manifest.samples) == ([other], 3)


def test_a_run_without_an_answer_is_never_half_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its old rows are listed no more before their files are removed: killed between, it is whole."""
    fail_once(tmp_path)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(opening, "remove_unlisted_files", die)
    with pytest.raises(KeyboardInterrupt):
        open_tried(tmp_path, job=NEW)

    assert read_manifest(manifest_path(tmp_path, "r")).parts == []


def test_a_run_that_was_killed_keeps_its_job(tmp_path: Path) -> None:
    """It may have answers that no part has."""
    fail_once(tmp_path, "crashed")

    with pytest.raises(RunChangedError, match=r"model\.name is 'b', was 'a'"):
        open_tried(tmp_path, job=NEW)


def test_a_run_that_lost_its_answers_keeps_its_job(tmp_path: Path) -> None:
    """A repair took them out; others would stand in their place."""
    fail_once(tmp_path)
    manifest = read_manifest(manifest_path(tmp_path, "r"))
    manifest.lost = [(0, 1)]
    write_manifest(manifest_path(tmp_path, "r"), manifest)

    with pytest.raises(RunChangedError, match=r"model\.name is 'b', was 'a'"):
        open_tried(tmp_path, job=NEW)


def test_a_run_with_rows_keeps_its_address(tmp_path: Path) -> None:
    """The error names the key of the job file that holds the address."""
    with open_tried(tmp_path, job={"model.provider": "http://a/v1"}) as writer:
        writer.commit(answered(0), settled=[0])
        writer.finish("stopped", reason="outage")

    with pytest.raises(RunChangedError, match=r"model\.base_url is 'http://b/v1', was 'http://a/v1'"):
        open_tried(tmp_path, job={"model.provider": "http://b/v1"})
