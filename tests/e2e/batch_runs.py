"""Runs whose calls go in batches to a batch server, in this process or in one that may be killed."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import polars as pl
from builders import merge_sections, write_job, write_prompts

import logprob_store as ls

if TYPE_CHECKING:
    from pathlib import Path

    from batch_server import BatchServer

KEY = "sk-0123456789abcdef"

_JOB: dict[str, Any] = {
    "prompts": {"path": "prompts.parquet", "id": "id"},
    "model": {"name": "m", "api_key_env": "BATCH_KEY", "params": {"max_tokens": 4}},
    "transport": {"kind": "batch"},
    "batch": {"lines": 4, "poll_s": 0.02},
    "prices": {
        "input_usd_per_million_tokens": 1.0,
        "output_usd_per_million_tokens": 4.0,
        "tiers": {"batch": 0.5},
    },
}


def batch_job(folder: Path, url: str, texts: list[str], **sections: Any) -> Path:
    """A job over some prompts, four to a batch, at the prices of the batch server."""
    folder.mkdir(parents=True, exist_ok=True)
    write_prompts(folder, {"id": [f"p{place}" for place in range(len(texts))], "text": texts})
    merged = merge_sections(_JOB, sections)
    merged["model"] = {**merged["model"], "base_url": url}
    return write_job(folder, **merged)


def questions(count: int) -> list[str]:
    """So many prompts."""
    return [f"Question {number}" for number in range(count)]


def start(job: Path, *options: str, run: str = "r") -> subprocess.Popen[bytes]:
    """The command `run` in a process of its own."""
    command = [sys.executable, "-m", "logprob_store", "run", str(job), "--run", run, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def answered(store: Path, run: str = "r") -> list[str]:
    """The prompts with a completion, in order; one with two is there twice."""
    found = ls.open_store(store, runs=run).completions.select("prompt_id").collect()
    return sorted(found["prompt_id"].to_list(), key=lambda name: int(name[1:]))


def failed(store: Path, run: str = "r") -> dict[str, str]:
    """The class of failure by prompt."""
    rows = ls.open_store(store, runs=run).failures.collect()
    return dict(rows.select("prompt_id", "error_type").iter_rows())


def spent_usd(store: Path, run: str = "r") -> tuple[float, float]:
    """What a run has spent by its manifest, and the sum of what its completions cost."""
    opened = ls.open_store(store, runs=run)
    [manifest] = opened.manifests
    cost = opened.completions.filter(pl.col("choice_index") == 0).select(pl.col("cost_usd").sum()).collect().item()
    return manifest.spent.usd or 0.0, cost


def check_ledger(server: BatchServer, store: Path, run: str = "r") -> None:
    """The run's dollars are the server's, and each call was executed once."""
    spent, cost = spent_usd(store, run)
    assert spent == cost == server.usd or abs(spent - server.usd) < 1e-12 > abs(cost - server.usd)
    assert set(server.times_executed().values()) <= {1}
