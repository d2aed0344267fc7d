"""Opening a run: one writer at a time, the same job, a valid name, and a manifest that can be read."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
from store.tried_runs import answered, open_tried, part_files

from logprob_store.analysis.opened_store import open_store
from logprob_store.errors import InputError, RunChangedError, RunLockedError, SchemaVersionError, StoreError
from logprob_store.store.manifest import Input

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
        "prompts file a.parquet has other content (1 rows, was 1)",
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


@pytest.mark.parametrize("version", [0, 1, 3, "2", None])
def test_another_schema_version(tmp_path: Path, version: object) -> None:
    """Reading or writing a store of another version is an error that names both."""
    open_tried(tmp_path).close()
    path = tmp_path / "runs" / "run=r" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": version, "new": 1}))

    for attempt in (open_tried, open_store):
        with pytest.raises(SchemaVersionError, match=f"has schema version {version}, this .* reads version 2"):
            attempt(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b'{"schema_version":2}', b"\xff\xfe"])
def test_a_damaged_manifest(tmp_path: Path, damage: bytes) -> None:
    """The error names the file and says what to do; nothing is removed."""
    with open_tried(tmp_path) as writer:
        writer.commit(answered(0), settled=[0])
    before = part_files(tmp_path)
    (tmp_path / "runs" / "run=r" / "run.json").write_bytes(damage)

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
    folder = tmp_path / "tokens" / "run=r"
    folder.mkdir()
    (folder / "part-00007.parquet").write_bytes(b"left over")
    (folder / "notes.txt").write_text("mine")

    open_tried(tmp_path, "r").close()

    assert {"tokens/run=r/notes.txt", "tokens/run=r1/part-00000.parquet"} <= part_files(tmp_path)
    assert "tokens/run=r/part-00007.parquet" not in part_files(tmp_path)
