"""Writing a run: parts, counts, open failures, and the record of its sessions."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from store.tried_runs import NOW, answered, failed, open_tried, part_files, shown

from logprob_store.analysis.opened_store import open_store
from logprob_store.errors import DiskError
from logprob_store.schema import TABLES
from logprob_store.store.manifest import MOST_SESSIONS, SessionRecord, manifest_path, read_manifest, run_folder


def test_parts_carry_their_checksum_and_version(tmp_path: Path) -> None:
    """Rows, size and CRC stand in the manifest, the schema version in each file."""
    with open_tried(tmp_path) as writer:
        writer.commit({**answered(0, 1), "failures": failed(2)}, settled=[0, 1, 2])
        (part,) = writer.manifest.parts

    assert set(part.files) == set(TABLES) - {"decisions"}  # nobody asked a question
    for table, listed in part.files.items():
        path = tmp_path / table / "run=r" / "part-00000.parquet"
        raw = path.read_bytes()
        metadata = pq.read_metadata(path)
        assert (listed.size, listed.crc32, listed.rows) == (len(raw), zlib.crc32(raw), metadata.num_rows)
        assert metadata.metadata[b"logprob_store.schema_version"] == b"2"


def test_tables_without_rows_have_no_file(tmp_path: Path) -> None:
    """A part without failures leaves no empty file."""
    with open_tried(tmp_path) as writer:
        writer.commit({**answered(0), "failures": failed()}, settled=[0])

    assert not (tmp_path / "failures").exists()


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    """The same job under the same name continues: outcomes, counts, open failures."""
    with open_tried(tmp_path) as writer:
        first = writer.manifest.run_id
        tables = {**answered(0), "failures": failed(1, error_type="rate_limit")}
        writer.commit(tables, settled=[0, 1], prompts_read=2, counts={"calls": 3})
    with open_tried(tmp_path) as writer:
        assert writer.manifest.run_id == first
        assert (writer.settled.intervals, writer.open_failures) == ([(0, 2)], {1: "rate_limit"})
        writer.commit(answered(1), settled=[1], prompts_read=2, counts={"calls": 1})
        writer.finish("finished")
    with open_tried(tmp_path) as writer:
        assert writer.open_failures == {}
        assert (writer.manifest.state, writer.manifest.counts.calls, writer.manifest.counts.failures) == (
            "finished",
            4,
            0,
        )
    assert shown(tmp_path)["failures"] == []
    assert "failures" not in {Path(name).parts[0] for name in part_files(tmp_path)}


def test_the_manifest_keeps_each_session_and_the_open_failures_by_class(tmp_path: Path) -> None:
    """The manifest has each session's state and reason, `crashed` for one without an end, and the open failures."""
    with open_tried(tmp_path) as writer:
        writer.commit({"failures": failed(1, 2, 3, error_type="timeout")}, settled=[1, 2, 3])
        writer.commit({"failures": failed(4, error_type="rate_limit")}, settled=[4])
    with open_tried(tmp_path) as writer:
        writer.commit(answered(1), settled=[1])
        writer.finish("stopped", reason="quota", message="no credit", calls=1, verdict={"limit_s": 2.5})
    with open_tried(tmp_path) as writer:
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
    with open_tried(tmp_path) as writer:
        writer.commit(answered(0), settled=[0])
        writer.finish("finished")
    path = manifest_path(tmp_path, "r")
    older = json.loads(path.read_bytes())
    del older["sessions"], older["failed"], older["sha256"]
    path.write_text(json.dumps(older))

    with open_tried(tmp_path) as writer:
        writer.commit(answered(1), settled=[1])
        writer.finish("finished")

    assert [session.state for session in read_manifest(path).sessions] == ["finished"]


def test_a_manifest_keeps_the_newest_sessions(tmp_path: Path) -> None:
    """The oldest records go: a manifest is rewritten with each part, and a job may be started every minute."""
    with open_tried(tmp_path) as writer:
        writer.manifest.sessions[:] = [SessionRecord(NOW, message=str(n)) for n in range(MOST_SESSIONS)]
        writer.finish("finished")
    with open_tried(tmp_path) as writer:
        kept = [session.message for session in writer.manifest.sessions]

    assert kept == [*(str(n) for n in range(1, MOST_SESSIONS - 1)), None, None]


def test_a_failure_that_fails_again_stands_once(tmp_path: Path) -> None:
    """The last failure of a call is the row."""
    with open_tried(tmp_path) as writer:
        writer.commit({"failures": failed(1, error_type="timeout")}, settled=[1])
        writer.commit({"failures": failed(1, error_type="rate_limit")}, settled=[1])
        before = open_store(tmp_path).failures.collect()["error_type"].to_list()
        writer.finish("finished")

    assert before == open_store(tmp_path).failures.collect()["error_type"].to_list() == ["rate_limit"]
    assert open_store(tmp_path).runs.collect()["failures"].to_list() == [1]


def test_how_a_session_ended_is_written_though_its_calls_cannot_be(tmp_path: Path) -> None:
    """The log of calls is on a disk that is full: the manifest says so, and the error is raised."""

    def sync_spent() -> None:
        raise DiskError("the calls made", tmp_path, "no space")

    with open_tried(tmp_path) as writer, pytest.raises(DiskError, match="the calls made"):
        writer.finish("interrupted", message="the disk is full", sync_spent=sync_spent)

    session = read_manifest(manifest_path(tmp_path, "r")).sessions[-1]
    assert (session.state, session.message) == ("interrupted", "the disk is full")


def test_room_is_kept_while_a_session_lasts(tmp_path: Path) -> None:
    """So that a session whose disk is full can say so; nothing of it is left, nor of a session that was killed."""
    room = run_folder(tmp_path, "r") / "room"
    with open_tried(tmp_path):
        kept = room.stat().st_size
    closed = room.exists()
    room.write_bytes(b"of a session that was killed")
    with open_tried(tmp_path) as writer:
        writer.finish("finished")

    assert kept == 65536
    assert not closed
    assert not room.exists()
