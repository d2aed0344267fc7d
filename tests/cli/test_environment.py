"""What a command needs of its environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("logprobs")


def logprobs(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What a command said, with these variables in its environment."""
    return subprocess.run(
        [PROGRAM, *words], env=os.environ | variables, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("threads", ["0", "-1", "abc", "99999999999", "1.5"])
def test_a_number_of_threads_that_polars_cannot_have_is_one_sentence(threads: str) -> None:
    """Polars panics over 0, and never returns from billions."""
    done = logprobs("status", "out", POLARS_MAX_THREADS=threads)

    said = f"logprobs: POLARS_MAX_THREADS is {threads!r}: set it to a number from 1 to 1024, or unset it\n"
    assert (done.returncode, done.stderr) == (2, said)


@pytest.mark.parametrize(
    "variables",
    [
        {"COLUMNS": "abc"},
        {"COLUMNS": "0"},
        {"LINES": "x"},
        {"TERM": "nonsense"},
        {"TERMINAL_WIDTH": "abc"},
        {"LC_ALL": "xx_YY"},
        {"HOME": "/nonexistent"},
    ],
    ids=str,
)
def test_a_nonsensical_terminal_is_no_error(variables: dict[str, str]) -> None:
    """The help is shown."""
    assert logprobs("--help", **variables).returncode == 0


@pytest.mark.parametrize("words", [("status", "out"), ("run", "/no/job.toml")], ids=["status", "run"])
def test_a_working_folder_that_is_gone_is_one_sentence(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Exit code 2: no relative path leads anywhere from there."""
    done = subprocess.run(
        ["sh", "-c", f'mkdir gone; cd gone; rmdir ../gone; "{PROGRAM}" "$@"', "sh", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (
        2,
        "logprobs: the working directory is gone (No such file or directory): go to one that is there\n",
    )
