"""Who may read what a run writes."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import pytest
from builders import write_job, write_prompts

from logprob_store.job import load_job
from logprob_store.run.api import run_job

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=[0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """A usual umask, and one that lets nobody else read."""
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(("asked", "mode"), [({}, 0o600), ({"file_mode": "0640"}, 0o640)])
def test_prompts_and_answers_are_for_their_owner(
    tmp_path: Path, fault_server: Any, asked: dict[str, str], mode: int
) -> None:
    """Every file of the store and the cache, unless the job widens it."""
    write_prompts(tmp_path, {"text": ["a", "b"]})
    run_job(load_job(write_job(tmp_path, fault_server.url, store=asked)), run="r")

    files = [path for folder in ("store", "cache") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in files if path.suffix != ".lock"} == {
        path.name: 0o600 if path.name == "lock" else mode for path in files if path.suffix != ".lock"
    }
    assert len(files) > 8
