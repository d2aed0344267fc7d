"""Jobs for the tests of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest
from builders import merge_sections, write_job, write_prompts

import logprob_store as ls

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.job import Job


class MakeJob(Protocol):
    """Writes prompts and a job file, and returns the job; sections are added to those of the smallest job."""

    def __call__(self, columns: dict[str, Any], url: str | None = None, /, **sections: dict[str, Any]) -> Job:
        """A job over these columns."""


@pytest.fixture
def make(tmp_path: Path) -> MakeJob:
    """Makes jobs in an empty folder: the prompts are the column `text`, answers are kept in `cache`."""

    def make(columns: dict[str, Any], url: str | None = None, /, **sections: dict[str, Any]) -> Job:
        write_prompts(tmp_path, columns)
        usual = {"model": {"provider": "p", "top_logprobs": 2, "params": {"max_tokens": 3}}}
        return ls.load_job(write_job(tmp_path, url, name="tried", **merge_sections(usual, sections)))

    return make
