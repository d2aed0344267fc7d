"""Shared by the end-to-end tests: the command line and fault servers as processes, and the tables of a store."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from builders import merge_sections, write_job, write_prompts
from fault_accounts import read_ledger

import logprob_store as ls
from logprob_store.store.call_log import RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import polars as pl

REPO = Path(__file__).parents[2]
HOSTILE = REPO / "tests" / "faults" / "hostile.py"
PROGRAM = Path(sys.executable).with_name("logprobs")


class Workplace:
    """A folder with a job and its prompts, and the command line run in it."""

    program = PROGRAM

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def job(
        self,
        url: str,
        *,
        prompts: int,
        concurrency: int = 8,
        attempts: int = 6,
        part_bytes: int = 1 << 25,
        **sections: Mapping[str, Any],
    ) -> Path:
        """Write a prompts file and a job file, with the keys of these sections added."""
        numbers = range(prompts)
        write_prompts(self.folder, {"id": [f"p{n}" for n in numbers], "word": [f"word-{n}" for n in numbers]})
        usual: dict[str, Mapping[str, Any]] = {
            "prompts": {"id": "id", "prompt": None, "template": "Say {word} please", "keep": ["word"]},
            "model": {"provider": "test", "top_logprobs": 3, "params": {"temperature": 0, "max_tokens": 6}},
            "limits": {"concurrency": concurrency, "attempts": attempts},
            "store": {"part_bytes": part_bytes},
        }
        return write_job(self.folder, url, **merge_sections(usual, sections))

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """Start `logprobs` with these words."""
        return subprocess.Popen(
            [PROGRAM, *words], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `logprobs` with these words to its end, with these environment variables added."""
        return subprocess.run(
            [PROGRAM, *words],
            cwd=self.folder,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def wait_until_sent(self, calls: int, *, run: str = "r") -> None:
        """Wait until a run's first session has sent so many calls, which a hanging server notes in no ledger."""
        log = self.folder / "store" / "runs" / f"run={run}" / "calls.log"
        before = 2 * RECORD_BYTES  # totals, and the run
        while not log.exists() or log.stat().st_size < before + calls * RECORD_BYTES:
            time.sleep(0.02)
        time.sleep(2)  # they are noted first, then sent

    def tables(self) -> dict[str, pl.DataFrame]:
        """All rows of the store, sorted, without the columns that depend on the clock."""
        opened = ls.open_store(self.folder / "store")
        keys = ["run", "completion_id", "section", "position", "rank", "prompt_index", "sample_index"]
        found = {}
        for name in ("prompts", "completions", "tokens", "alternatives", "failures"):
            frame = getattr(opened, name).collect()
            frame = frame.drop("latency_s", "first_at", "last_at", strict=False)
            found[name] = frame.sort([key for key in keys if key in frame.columns])
        return found


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    """An empty folder to work in."""
    return Workplace(tmp_path)


class FaultServer:
    """A fault server in a process of its own, and its ledger."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.ledger = folder / "ledger.jsonl"
        self.ledger.touch()
        command = [sys.executable, REPO / "tests" / "faults" / "fault_server.py", "--ledger", self.ledger, *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def calls(self) -> list[dict[str, Any]]:
        """The calls so far, and what was done with each."""
        return read_ledger(self.ledger)

    def stop(self) -> None:
        """End the server; a second call does nothing."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:
    """Start fault servers: `serve("--delay-ms", "5")`."""
    servers: list[FaultServer] = []

    def start(*options: str) -> FaultServer:
        servers.append(FaultServer(tmp_path, *options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def serve_in() -> Iterator[Any]:
    """Start fault servers whose ledger is in a given folder, and end those that still run."""
    servers: list[FaultServer] = []

    def start(folder: Path, *options: str) -> FaultServer:
        servers.append(FaultServer(folder, *options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def hostile() -> Iterator[str]:
    """The URL of a hostile server in a process of its own."""
    process = subprocess.Popen([sys.executable, HOSTILE], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.kill()
    process.communicate()
