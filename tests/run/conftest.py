"""Jobs for the tests of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import polars as pl
import pytest

from logprob_store.job import make_job

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.job import Job


class MakeJob(Protocol):
    """Writes prompts.parquet and returns a job over it; sections are added to those of the smallest job."""

    def __call__(self, columns: dict[str, Any], url: str | None = None, /, **sections: dict[str, Any]) -> Job:
        """A job over these columns."""


@pytest.fixture
def make(tmp_path: Path) -> MakeJob:
    """Makes jobs in an empty folder: the prompts are the column `text`, answers are kept in `cache`."""

    def make(columns: dict[str, Any], url: str | None = None, /, **sections: dict[str, Any]) -> Job:
        pl.DataFrame(columns).write_parquet(tmp_path / "prompts.parquet")
        smallest: dict[str, dict[str, Any]] = {
            "prompts": {"path": "prompts.parquet", "prompt": "text"},
            "model": {"name": "m", "provider": "p", "base_url": url, "top_logprobs": 2, "params": {"max_tokens": 3}},
            "cache": {"path": "cache"},
            "store": {"path": "store"},
        }
        merged = {name: {**smallest.get(name, {}), **sections.get(name, {})} for name in {**smallest, **sections}}
        return make_job("tried", base=tmp_path, **merged)

    return make
