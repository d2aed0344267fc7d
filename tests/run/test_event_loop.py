"""Running a coroutine to its end, inside and outside of an event loop."""

from __future__ import annotations

import asyncio
import signal
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


def test_an_interrupt_asks_the_other_thread_to_end() -> None:
    """The work ends in its own way, and what it returns is not lost."""
    stopped = threading.Event()

    async def work() -> str:
        await asyncio.to_thread(stopped.wait, 20)
        return "ended early"

    async def cell() -> str:
        main = threading.get_ident()
        threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()
        return run_to_end(work(), on_interrupt=stopped.set)

    loop = asyncio.new_event_loop()  # not asyncio.run, which handles the signal itself
    assert loop.run_until_complete(cell()) == "ended early"
    loop.close()


def test_a_job_runs_in_a_notebook_by_its_path(make_job_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ls.run_job("job.toml")` inside an event loop, with the key of the environment."""
    monkeypatch.setenv("MY_KEY", "sk-mine")

    async def cell() -> ls.RunSummary:
        return ls.run_job(make_job_file, run="r")

    assert asyncio.run(cell()).completions == 2


def test_a_run_in_a_notebook_is_interrupted_as_elsewhere(
    make_job_file: Path, fault_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came is committed, and the summary says so."""
    monkeypatch.setenv("MY_KEY", "sk-mine")
    fault_server.script("hang")
    main = threading.get_ident()
    threading.Timer(1.0, signal.pthread_kill, (main, signal.SIGINT)).start()

    async def cell() -> ls.RunSummary:
        return ls.run_job(make_job_file, run="r")

    loop = asyncio.new_event_loop()
    started = time.monotonic()
    assert loop.run_until_complete(cell()).state == "interrupted"
    assert time.monotonic() - started < 30
    loop.close()


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
