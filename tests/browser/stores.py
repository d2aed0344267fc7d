"""Stores made by the command line, in a process of its own: a job file, recordings, then `logprobs run`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builders import answer_to, requests_of

import logprob_store as ls
from logprob_store.replay.fixtures import write_fixtures

if TYPE_CHECKING:
    from collections.abc import Callable

    from logprob_store.request import Request

PROGRAM = Path(sys.executable).with_name("logprobs")
SOME_FAILED = 3


def logprobs(*words: str | Path, folder: Path, code: int = 0) -> str:
    """Run `logprobs` with these words in a folder, and return what it wrote; it has to end with this code."""
    done = subprocess.run(
        [PROGRAM, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=300, errors="replace"
    )
    assert done.returncode == code, done.stderr + done.stdout
    return done.stdout


def run_recorded(job: Path, run: str, answer: Callable[[Request], tuple[int, Any]], *, code: int = 0) -> None:
    """Record an answer to each request of a job, then run it.

    Args:
        job: a job file with `transport.fixtures = "recorded.jsonl"`.
        run: the run's name.
        answer: the status and the body of the answer to a request.
        code: how the run has to end.
    """
    requests = requests_of(ls.load_job(job))
    headers = {"content-type": "application/json"}
    recorded = []
    for request in requests:
        status, body = answer(request)
        recorded.append(answer_to(request, body, status=status, headers=headers))
    write_fixtures(job.with_name("recorded.jsonl"), recorded)
    logprobs("run", job, "--run", run, folder=job.parent, code=code)
