"""Writing a run: a part is whole or absent whenever the process is killed, and a run has one writer at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import zlib
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fault_answers
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from logprob_store.analysis.opened_store import open_store
from logprob_store.decode.decoder import decode_answers
from logprob_store.errors import InputError, RunChangedError, RunLockedError, SchemaVersionError, StoreError
from logprob_store.request import Answer, make_request
from logprob_store.schema import FAILURES, PROMPTS, TABLES, arrow_schema
from logprob_store.store.manifest import MOST_SESSIONS, Input, SessionRecord, manifest_path, read_manifest
from logprob_store.store.opening import open_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from logprob_store.store.writing import RunWriter

JOB = {"model.name": "m", "model.params.temperature": 0}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
INPUTS = [Input("prompts.parquet", 10, 1000, "abc")]


def _open(store: Path, run: str = "r", **changes: Any) -> RunWriter:
    settings = {"job_name": "tried", "job": JOB, "inputs": INPUTS, "samples": 1}
    return open_run(store, run, **{**settings, **changes})


def _answered(*numbers: int) -> dict[str, pa.Table]:
    """The rows of a part with an answer for each prompt."""
    answers = []
    for number in numbers:
        body = {"model": "m", "prompt": str(number), "logprobs": 2, "n": 2, "max_tokens": 3}
        request = make_request(body, endpoint="completions", provider="p", prompt_index=number, prompt_id=str(number))
        answers.append(Answer(request, 200, {}, fault_answers.answer_to("/v1/completions", body), "api"))
    decoded = decode_answers(answers)
    prompts = [{"prompt_id": str(number), "prompt_index": number, "messages": "[]"} for number in numbers]
    return {
        "prompts": pa.Table.from_pylist(prompts, schema=arrow_schema(PROMPTS)),
        "completions": decoded.completions,
        "tokens": decoded.tokens,
        "alternatives": decoded.alternatives,
    }


def _failed(*numbers: int, error_type: str = "timeout") -> pa.Table:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        {
            "prompt_id": str(number), "prompt_index": number, "sample_index": 0, "request_key": "k",
            "error_type": error_type, "status": None, "message": "", "attempts": 1, "first_at": now, "last_at": now,
            "maybe_billed": False,
        }
        for number in numbers
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=arrow_schema(FAILURES))


def _shown(store: Path) -> dict[str, list[Any]]:
    """What a reader sees: prompt indices by table, and failures."""
    opened = open_store(store)
    seen = {
        table: opened._scan(table, TABLES[table]).collect()[column].unique().sort().to_list()
        for table, column in (
            ("prompts", "prompt_index"),
            ("completions", "prompt_index"),
            ("tokens", "completion_id"),
            ("alternatives", "completion_id"),
        )
    }
    return seen | {"failures": opened.failures.collect()["prompt_index"].sort().to_list()}


def _files(store: Path) -> set[str]:
    return {str(path.relative_to(store)) for table in TABLES for path in store.glob(f"{table}/**/*") if path.is_file()}


def _listed(store: Path) -> set[str]:
    opened = open_store(store)
    return {str(path.relative_to(store)) for table in TABLES for path in opened.files(table)}


class _Killed(BaseException):
    """Stands for kill -9: no code of the program runs after it."""


@contextmanager
def _killed_before_step(number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Let the program die before its `number`-th step that reaches the disk; yields the steps taken."""
    steps: list[str] = []
    really = {"fsync": os.fsync, "replace": Path.replace, "unlink": Path.unlink, "write": pq.write_table}

    def step(name: str, what: object) -> None:
        if len(steps) == number:
            raise _Killed
        steps.append(f"{name} {what}")

    def fsync(descriptor: int) -> None:
        step("fsync", Path(f"/proc/self/fd/{descriptor}").readlink().name)
        really["fsync"](descriptor)

    def replace(self: Path, target: Path) -> Path:
        step("replace", target.name)
        return really["replace"](self, target)

    def unlink(self: Path, **options: Any) -> None:
        step("unlink", self.name)
        really["unlink"](self, **options)

    def write(table: pa.Table, path: Path, **options: Any) -> None:
        if len(steps) == number:
            Path(path).write_bytes(b"PAR1 half a file")
        step("write", path.name)
        really["write"](table, path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        patched.setattr(Path, "replace", replace)
        patched.setattr(Path, "unlink", unlink)
        patched.setattr(pq, "write_table", write)
        yield steps


def _until_it_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: Any, act: Any) -> list[dict[str, Any]]:
    """Kill before step 0, 1, 2 ... of `act` until it gets through; returns what a reader saw each time."""
    seen = []
    for number in range(200):
        store = tmp_path / f"killed at {number}"
        writer = _open(store)
        begin(writer)
        alive = False
        with _killed_before_step(number, monkeypatch):
            try:
                act(writer)
                alive = True
            except _Killed:
                pass
        writer.close()  # as the kernel does
        seen.append(_shown(store))
        with _open(store) as again:
            assert _shown(store) == seen[-1]
            assert _files(store) == _listed(store)
            settled = [call for call in range(10) if call in again.settled]
            assert settled == sorted({*seen[-1]["completions"], *seen[-1]["failures"]})
            again.commit(_answered(9), settled=[9])
        assert _shown(store)["completions"] == sorted({*seen[-1]["completions"], 9})
        if alive:
            return seen
    raise AssertionError("it never got through")


def test_a_commit_killed_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader sees the old or the new state, whole in all tables; the next writer removes what is left over."""

    def begin(writer: RunWriter) -> None:
        writer.commit(_answered(0), settled=[0])

    def act(writer: RunWriter) -> None:
        writer.commit({**_answered(1, 2), "failures": _failed(3)}, settled=[1, 2, 3])

    seen = _until_it_survives(tmp_path, monkeypatch, begin, act)

    old, new = seen[0], seen[-1]
    assert (old["completions"], old["failures"]) == ([0], [])
    assert (new["completions"], new["failures"]) == ([0, 1, 2], [3])
    assert all(state in (old, new) for state in seen)
    assert seen == sorted(seen, key=lambda state: state == new)
    assert len(seen) > 20


def test_a_finish_killed_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures with an answer by now are dropped; at no moment is an open one missing or an old one back."""

    def begin(writer: RunWriter) -> None:
        writer.commit({"failures": _failed(1, 2)}, settled=[1, 2])
        writer.commit({**_answered(1), "failures": _failed(3)}, settled=[1, 3])

    seen = _until_it_survives(tmp_path, monkeypatch, begin, lambda writer: writer.finish("finished"))

    assert len(seen) > 8
    assert all(state == seen[0] for state in seen)
    assert (seen[0]["completions"], seen[0]["failures"]) == ([1], [2, 3])


def test_the_first_commit_killed_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run killed before its first part is an empty run."""
    seen = _until_it_survives(
        tmp_path, monkeypatch, lambda _: None, lambda writer: writer.commit(_answered(4), settled=[4])
    )

    assert seen[0]["completions"] == []
    assert seen[-1]["completions"] == [4]


def test_the_order_of_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is synced, then renamed, then its folder synced; the manifest is replaced when all that is done."""
    with _open(tmp_path) as writer:
        writer.commit(_answered(0), settled=[0])
        with _killed_before_step(10_000, monkeypatch) as steps:
            writer.commit(_answered(1), settled=[1])

    one_table = ["write .part-00001.parquet.tmp", "fsync .part-00001.parquet.tmp", "replace part-00001.parquet"]
    keep_old = ["unlink .run.json.previous.tmp", "replace run.json.previous"]
    new = ["fsync .run.json.tmp", "replace run.json", "fsync run=r"]
    assert steps == [*one_table * 4, *["fsync run=r"] * 4, *keep_old, *new]


def test_new_folders_are_synced_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A synced file in a folder whose own name was lost is lost: every folder made is synced into the one above."""
    with _killed_before_step(10_000, monkeypatch) as steps:
        _open(tmp_path / "a" / "store").close()

    assert steps[:4] == [f"fsync {name}" for name in (tmp_path.name, "a", "store", "runs")]


def test_parts_carry_their_checksum_and_version(tmp_path: Path) -> None:
    """Rows, size and CRC stand in the manifest, the schema version in each file."""
    with _open(tmp_path) as writer:
        writer.commit({**_answered(0, 1), "failures": _failed(2)}, settled=[0, 1, 2])
        (part,) = writer.manifest.parts

    assert set(part.files) == set(TABLES)
    for table, listed in part.files.items():
        path = tmp_path / table / "run=r" / "part-00000.parquet"
        raw = path.read_bytes()
        metadata = pq.read_metadata(path)
        assert (listed.size, listed.crc32, listed.rows) == (len(raw), zlib.crc32(raw), metadata.num_rows)
        assert metadata.metadata[b"logprob_store.schema_version"] == b"2"


def test_tables_without_rows_have_no_file(tmp_path: Path) -> None:
    """A part without failures leaves no empty file."""
    with _open(tmp_path) as writer:
        writer.commit({**_answered(0), "failures": _failed()}, settled=[0])

    assert not (tmp_path / "failures").exists()


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    """The same job under the same name continues: outcomes, counts, open failures."""
    with _open(tmp_path) as writer:
        first = writer.manifest.run_id
        tables = {**_answered(0), "failures": _failed(1, error_type="rate_limit")}
        writer.commit(tables, settled=[0, 1], prompts_read=2, counts={"calls": 3})
    with _open(tmp_path) as writer:
        assert writer.manifest.run_id == first
        assert (writer.settled.intervals, writer.open_failures) == ([(0, 2)], {1: "rate_limit"})
        writer.commit(_answered(1), settled=[1], prompts_read=2, counts={"calls": 1})
        writer.finish("finished")
    with _open(tmp_path) as writer:
        assert writer.open_failures == {}
        assert (writer.manifest.state, writer.manifest.counts.calls, writer.manifest.counts.failures) == (
            "finished",
            4,
            0,
        )
    assert _shown(tmp_path)["failures"] == []
    assert "failures" not in {Path(name).parts[0] for name in _files(tmp_path)}


def test_the_manifest_keeps_each_session_and_the_open_failures_by_class(tmp_path: Path) -> None:
    """The manifest has each session's state and reason, `crashed` for one without an end, and the open failures."""
    with _open(tmp_path) as writer:
        writer.commit({"failures": _failed(1, 2, 3, error_type="timeout")}, settled=[1, 2, 3])
        writer.commit({"failures": _failed(4, error_type="rate_limit")}, settled=[4])
    with _open(tmp_path) as writer:
        writer.commit(_answered(1), settled=[1])
        writer.finish("stopped", reason="quota", message="no credit", calls=1, verdict={"limit_s": 2.5})
    with _open(tmp_path) as writer:
        writer.finish("finished")

    manifest = read_manifest(manifest_path(tmp_path, "r"))
    crashed, stopped, finished = manifest.sessions
    assert manifest.failed == {"rate_limit": 1, "timeout": 2}
    assert (crashed.state, crashed.ended_at) == ("crashed", None)
    assert (stopped.state, stopped.reason, stopped.message, stopped.calls, stopped.verdict) == (
        ("stopped", "quota", "no credit", 1, {"limit_s": 2.5})
    )  # fmt: skip
    assert (finished.state, finished.reason) == ("finished", None)
    assert stopped.ended_at is not None
    assert stopped.started_at <= stopped.ended_at <= finished.started_at


def test_a_manifest_without_sessions_can_be_read_and_goes_on(tmp_path: Path) -> None:
    """A manifest from before sessions were recorded has none, and gets one."""
    with _open(tmp_path) as writer:
        writer.commit(_answered(0), settled=[0])
        writer.finish("finished")
    path = manifest_path(tmp_path, "r")
    older = json.loads(path.read_bytes())
    del older["sessions"], older["failed"]
    path.write_text(json.dumps(older))

    with _open(tmp_path) as writer:
        writer.commit(_answered(1), settled=[1])
        writer.finish("finished")

    assert [session.state for session in read_manifest(path).sessions] == ["finished"]


def test_a_manifest_keeps_the_newest_sessions(tmp_path: Path) -> None:
    """The oldest records go: a manifest is rewritten with each part, and a job may be started every minute."""
    with _open(tmp_path) as writer:
        writer.manifest.sessions[:] = [SessionRecord(NOW, message=str(n)) for n in range(MOST_SESSIONS)]
        writer.finish("finished")
    with _open(tmp_path) as writer:
        kept = [session.message for session in writer.manifest.sessions]

    assert kept == [*(str(n) for n in range(1, MOST_SESSIONS - 1)), None, None]


def test_a_failure_that_fails_again_stands_once(tmp_path: Path) -> None:
    """The last failure of a call is the row."""
    with _open(tmp_path) as writer:
        writer.commit({"failures": _failed(1, error_type="timeout")}, settled=[1])
        writer.commit({"failures": _failed(1, error_type="rate_limit")}, settled=[1])
        before = open_store(tmp_path).failures.collect()["error_type"].to_list()
        writer.finish("finished")

    assert before == open_store(tmp_path).failures.collect()["error_type"].to_list() == ["rate_limit"]
    assert open_store(tmp_path).runs.collect()["failures"].to_list() == [1]


def test_two_writers_in_one_process(tmp_path: Path) -> None:
    """The second is refused until the first is closed; another run is free."""
    with _open(tmp_path):
        with pytest.raises(RunLockedError, match="another process"):
            _open(tmp_path)
        _open(tmp_path, "other").close()
    _open(tmp_path).close()


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
            _open(tmp_path, job={}, inputs=[])
        process.send_signal(signal.SIGKILL)
        process.wait(5)

    _open(tmp_path, job={}, inputs=[]).close()


def test_a_changed_job_is_told_line_by_line(tmp_path: Path) -> None:
    """The error lists what changed in the job and in the prompts, and the run stays as it was."""
    inputs = [Input("a.parquet", 1, 10, "x"), Input("b.parquet", 2, 20, "y")]
    _open(tmp_path, inputs=inputs).close()
    before = (tmp_path / "runs" / "run=r" / "run.json").read_bytes()
    job = {"model.name": "n", "model.params.temperature": 0, "model.params.seed": 1}

    with pytest.raises(RunChangedError, match="--run NAME") as caught:
        _open(tmp_path, job=job, inputs=[Input("a.parquet", 1, 10, "z"), Input("c.parquet", 3, 30, "w")])

    assert caught.value.differences == [
        "model.name is 'n', was 'm'",
        "model.params.seed is 1, was None",
        "prompts file a.parquet has other content (1 rows, was 1)",
        "prompts file b.parquet is gone",
        "prompts file c.parquet is new",
    ]
    assert (tmp_path / "runs" / "run=r" / "run.json").read_bytes() == before
    _open(tmp_path, inputs=inputs).close()


@pytest.mark.parametrize("run", ["", ".", "..", "a/b", "../x", "a b", "a\n", "é", "x" * 129, "a\x00"])
def test_run_names_that_are_no_folder_names(tmp_path: Path, run: str) -> None:
    """A run's name is a folder's name and nothing that leads elsewhere."""
    with pytest.raises(InputError, match="run name"):
        _open(tmp_path / "store", run)

    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("version", [0, 1, 3, "2", None])
def test_another_schema_version(tmp_path: Path, version: object) -> None:
    """Reading or writing a store of another version is an error that names both."""
    _open(tmp_path).close()
    path = tmp_path / "runs" / "run=r" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": version, "new": 1}))

    for attempt in (_open, open_store):
        with pytest.raises(SchemaVersionError, match=f"has schema version {version}, this .* reads version 2"):
            attempt(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b'{"schema_version":2}', b"\xff\xfe"])
def test_a_damaged_manifest(tmp_path: Path, damage: bytes) -> None:
    """The error names the file and says what to do; nothing is removed."""
    with _open(tmp_path) as writer:
        writer.commit(_answered(0), settled=[0])
    before = _files(tmp_path)
    (tmp_path / "runs" / "run=r" / "run.json").write_bytes(damage)

    for attempt in (_open, open_store):
        with pytest.raises(StoreError, match=r"run\.json") as caught:
            attempt(tmp_path)
        assert damage.startswith((b"[]", b"null")) or "is damaged" in str(caught.value)
    assert _files(tmp_path) == before


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    """Where a file stands in the way, the error names the store."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="file/store cannot be written"):
        _open(tmp_path / "file" / "store")


def test_other_runs_are_left_alone(tmp_path: Path) -> None:
    """Opening a run removes its own leftovers, not those of a run whose name begins alike."""
    with _open(tmp_path, "r1") as writer:
        writer.commit(_answered(0), settled=[0])
    folder = tmp_path / "tokens" / "run=r"
    folder.mkdir()
    (folder / "part-00007.parquet").write_bytes(b"left over")
    (folder / "notes.txt").write_text("mine")

    _open(tmp_path, "r").close()

    assert {"tokens/run=r/notes.txt", "tokens/run=r1/part-00000.parquet"} <= _files(tmp_path)
    assert "tokens/run=r/part-00007.parquet" not in _files(tmp_path)
