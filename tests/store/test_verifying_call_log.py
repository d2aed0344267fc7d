"""Verification and repair of the log of calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from builders import write_job, write_prompts

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
    assert "what it spent was put together" in repair_store(store, problems)[0]

    assert verify_store(store) == []
    calls = open_call_log(path)
    spent, requests = calls.spent, calls.requests
    calls.close()
    assert requests == summary.spent_requests == 2
    assert spent.total >= summary.spent_tokens == Usage(14, 0, 10).total
