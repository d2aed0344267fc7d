"""Verification and repair of the log of calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from builders import open_writer, write_job, write_prompts

from logprob_store.job import load_job
from logprob_store.run.api import run_job
from logprob_store.store.call_log import RECORD_BYTES, open_call_log
from logprob_store.store.repair import repair_store
from logprob_store.store.verifying import verify_store
from logprob_store.usage import Usage

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("damage", "said"),
    [("gone", "is missing"), ("totals", "has lost its beginning"), ("call", "has 1 damaged records")],
)
def test_a_damaged_file_of_calls_is_named_and_mended(tmp_path: Path, fault_server: Any, damage: str, said: str) -> None:
    """What was spent is taken from the manifest, and the repaired file has it."""
    write_prompts(tmp_path, {"text": ["a", "b"]})
    summary = run_job(load_job(write_job(tmp_path, fault_server.url, model={"params": {"max_tokens": 5}})), run="r")
    store = tmp_path / "store"
    path = store / "runs" / "run=r" / "calls.log"
    assert verify_store(store) == []
    content = bytearray(path.read_bytes())
    content[10] ^= damage == "totals"
    path.write_bytes(content + bytes(RECORD_BYTES if damage == "call" else 0))
    if damage == "gone":
        path.unlink()

    problems = verify_store(store)
    assert [problem.what for problem in problems] == [said]
    assert "what it spent was put together" in repair_store(store, problems).done[0]

    assert verify_store(store) == []
    calls = open_call_log(path)
    spent, requests = calls.spent, calls.requests
    calls.close()
    assert requests == summary.spent_requests == 2
    assert spent.total >= summary.spent_tokens == Usage(14, 0, 10).total


def test_the_log_of_another_run_is_found_and_set_aside(tmp_path: Path) -> None:
    """It says whose it is; a repair keeps it beside a new one."""
    for run in ("r", "s"):
        with open_writer(tmp_path, run) as writer:
            path = tmp_path / "runs" / f"run={run}" / "calls.log"
            open_call_log(path, run_id=writer.manifest.run_id).close()
            writer.note_call_log()
    path.write_bytes((tmp_path / "runs" / "run=r" / "calls.log").read_bytes())

    problems = verify_store(tmp_path)

    assert [(problem.run, problem.what) for problem in problems] == [("s", "is the log of another run")]
    repair_store(tmp_path, problems)
    assert verify_store(tmp_path) == []
    assert path.with_name("calls.log.of-another-run").exists()


def test_a_log_that_names_no_run_is_accepted(tmp_path: Path) -> None:
    """Version 0.1.0 wrote none; the next session adds it."""
    with open_writer(tmp_path, "r") as writer:
        path = tmp_path / "runs" / "run=r" / "calls.log"
        calls = open_call_log(path)
        calls.begin("00" * 32, Usage(7, 0, 5))
        calls.close()
        assert verify_store(tmp_path) == []
        calls = open_call_log(path, run_id=writer.manifest.run_id)
        calls.close()

    assert (calls.requests, calls.spent.whole) == (1, Usage(7, 0, 5))
    assert verify_store(tmp_path) == []
    assert path.stat().st_size == 4 * RECORD_BYTES  # totals, the sum of the lost, whose it is, one lost key
