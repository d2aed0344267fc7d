"""Running a coroutine to its end, inside and outside of an event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import logprob_store as ls
from logprob_store.run.event_loop import run_to_end

if TYPE_CHECKING:
    from pathlib import Path


async def thread_name() -> str:
    """The name of the thread that runs this."""
    return threading.current_thread().name


def test_without_an_event_loop_the_current_thread_is_used() -> None:
    """Signals arrive in the main thread alone."""
    assert run_to_end(thread_name()) == "MainThread"


def test_inside_an_event_loop_another_thread_is_used() -> None:
    """As in a cell of a notebook."""

    async def cell() -> str:
        return run_to_end(thread_name())

    assert asyncio.run(cell()) != "MainThread"


def test_a_job_runs_in_a_notebook_by_its_path(make_job_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ls.run_job("job.toml")` inside an event loop, with the key of the environment."""
    monkeypatch.setenv("MY_KEY", "sk-mine")

    async def cell() -> ls.RunSummary:
        return ls.run_job(make_job_file, run="r")

    assert asyncio.run(cell()).completions == 2


@pytest.mark.slow
def test_a_run_in_a_notebook_is_interrupted_as_elsewhere(make_job_file: Path, fault_server: Any) -> None:
    """At Ctrl-C what came is committed, and the summary says so."""
    fault_server.script("hang*9")
    cell = f"""
import asyncio, signal, logprob_store as ls
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell that tests are started from ignores
async def cell():
    print("state", ls.run_job({str(make_job_file)!r}, run="r").state)
asyncio.new_event_loop().run_until_complete(cell())  # as a kernel does: asyncio.run takes the signal for itself
"""
    notebook = subprocess.Popen(
        [sys.executable, "-c", cell], env=os.environ | {"MY_KEY": "sk-mine"}, stdout=subprocess.PIPE, text=True
    )
    while not fault_server.calls:
        time.sleep(0.05)
    notebook.send_signal(signal.SIGINT)

    assert notebook.communicate(timeout=60)[0] == "state interrupted\n"


@pytest.fixture
def make_job_file(tmp_path: Path, fault_server: Any) -> Path:
    """A job of two prompts for the fault server, with a key from the environment."""
    pl.DataFrame({"text": ["a", "b"]}).write_parquet(tmp_path / "p.parquet")
    job = tmp_path / "job.toml"
    job.write_text(f"""
name = "j"
[prompts]
path = "p.parquet"
prompt = "text"
[model]
name = "m"
base_url = "{fault_server.url}"
api_key_env = "MY_KEY"
[store]
path = "out"
""")
    return job
