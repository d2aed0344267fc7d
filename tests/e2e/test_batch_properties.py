"""Runs in batches under random stories, faults and sessions: what holds for each of them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import polars as pl
import pytest
from batch_server import BatchServer
from e2e.batch_runs import KEY, answered, batch_job, failed, spent_usd
from hypothesis import given, settings
from hypothesis import strategies as st

import logprob_store as ls

if TYPE_CHECKING:
    from pathlib import Path

FOLDERS = itertools.count()
PROMPTS = [
    f"Question {number % 11}{' FAIL500' * (number % 5 == 1)}{' FAIL400' * (number == 7)}" for number in range(13)
]
STORIES = (
    ("ok", "ok", "expired=0.5", "cancelled=0.3", "expired=0", "paused=2", "missing=1", "doubled=1", "stranger", "odd"),
    ("late_output=1", "no_counts", "fail=token_limit_exceeded", "fail=invalid_json_line@1", "gone"),
)

words = st.sampled_from([word for some in STORIES for word in some])
faults = st.dictionaries(
    st.sampled_from(["upload", "create", "get", "list_files", "list_batches", "content"]),
    st.lists(st.sampled_from(["", "500", "lost", "reset", "429", "done504", "done_html"]), max_size=3),
    max_size=3,
)


@pytest.mark.slow
@settings(max_examples=30)
@given(st.lists(words, max_size=6), faults, st.lists(st.booleans(), max_size=3))
def test_each_call_ends_once_whatever_happens(
    tmp_path: Path, batch_server: BatchServer, scripts: list[str], spoilt: dict[str, list[str]], detached: list[bool]
) -> None:
    """Each prompt has one completion or one failure; what was executed twice is marked; no dollar is missed.

    The sessions before the last one may leave batches under way.
    """
    del batch_server  # allows the loopback; each example has a server of its own
    folder = tmp_path / str(next(FOLDERS))
    with pytest.MonkeyPatch.context() as patch, BatchServer() as server:
        patch.setenv("BATCH_KEY", KEY)
        server.scripts, server.faults = list(scripts), {kind: list(steps) for kind, steps in spoilt.items()}
        job = batch_job(folder, server.url, PROMPTS)
        for detach in detached:
            ls.run_job(job, run="r", detach=detach)
        summary = ls.run_job(job, run="r")

        store = folder / "store"
        done, lost = answered(store), failed(store)
        assert summary.state == "finished"
        assert sorted([*done, *lost]) == sorted(f"p{place}" for place in range(len(PROMPTS)))
        marked = ls.open_store(store).completions.select(pl.col("maybe_billed").any()).collect().item()
        spent, cost = spent_usd(store)
        twice = max(server.times_executed().values(), default=1) > 1
        assert marked or not twice
        assert abs(spent - server.usd) < 1e-12 or (marked and spent > server.usd)
        assert cost <= spent + 1e-12
