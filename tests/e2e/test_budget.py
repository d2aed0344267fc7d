"""Ceilings on what a run may spend, on the command line and against a real server: they are never passed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from builders import write_prompts

import logprob_store as ls

if TYPE_CHECKING:
    from pathlib import Path

PROMPTS = 120
OUTPUT = 6
"""What the job's `max_tokens` are, and what the fault server always writes."""
PROMPT_TOKENS = 7
"""What the fault server says that every prompt has."""
PRICES = {"input_usd_per_million_tokens": 10, "output_usd_per_million_tokens": 30}
USD = (PROMPT_TOKENS * 10 + OUTPUT * 30) / 1e6
"""What a call costs: 250 millionths."""
DIES = """
import os, signal
from logprob_store import cli
from logprob_store.spending.budget import Budget
Budget.durable = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
cli.main()
"""
"""The command line, killed as the first answer is in the cache and not yet noted as such."""


def job_with(workplace: Any, url: str, *, prompts: int = PROMPTS, concurrency: int = 64, **limits: float) -> Path:
    """Write a job with prices and with these keys in [limits]."""
    path: Path = workplace.job(url, prompts=prompts, concurrency=concurrency, limits=limits, prices=PRICES)
    return path


def spent(calls: list[dict[str, Any]]) -> dict[str, float]:
    """What the server would have billed, by its ledger."""
    billed = sum(call["billed"] for call in calls)
    return {
        "max_requests": len(calls),
        "max_tokens": billed * (PROMPT_TOKENS + OUTPUT),
        "max_cost_usd": billed * USD,
    }


@pytest.mark.slow
@pytest.mark.parametrize(("name", "ceiling"), [("max_requests", 50), ("max_tokens", 1000), ("max_cost_usd", 0.02)])
def test_a_ceiling_stops_and_raising_it_goes_on(workplace: Any, serve: Any, name: str, ceiling: float) -> None:
    """The run stops below its ceiling with exit code 4 and keeps all answers; with a higher ceiling it finishes."""
    server = serve("--delay-ms", "10")
    job = job_with(workplace, server.url, **{name: ceiling})

    stopped = workplace.run("run", job, "--run", "r")

    calls = server.calls()
    tables = workplace.tables()
    assert stopped.returncode == 4, stopped.stderr
    assert f"limits.{name} = {ceiling:g} allows no further call" in stopped.stdout
    assert 0 < spent(calls)[name] <= ceiling
    assert tables["completions"].height == len(calls) < PROMPTS
    assert tables["failures"].height == 0
    assert f"r stopped: limits.{name} = {ceiling:g} allows no further call" in workplace.run("status", "store").stdout

    job_with(workplace, server.url, **{name: ceiling * 20})
    finished = workplace.run("run", job, "--run", "r", "--json")

    assert finished.returncode == 0, finished.stderr
    assert max(Counter(call["body"] for call in server.calls()).values()) == 1
    rows = workplace.tables()["completions"]
    assert rows.height == PROMPTS
    assert rows["cost_usd"].to_list() == pytest.approx([USD] * PROMPTS)
    summary = json.loads(finished.stdout)
    assert (summary["spent_requests"], summary["spent_tokens"]) == (PROMPTS, PROMPTS * 13)  # 7 + 6 each
    assert summary["spent_usd"] == pytest.approx(PROMPTS * USD)
    assert rows["cost_usd"].sum() == pytest.approx(summary["spent_usd"])
    first, second = json.loads((workplace.folder / "store/runs/run=r/run.json").read_bytes())["sessions"]
    assert (first["state"], first["reason"], first["calls"]) == ("stopped", "budget", len(calls))
    assert f"limits.{name}" in first["message"]
    assert (second["state"], second["reason"], second["calls"]) == ("finished", None, PROMPTS - len(calls))
    (now,) = json.loads(workplace.run("status", "store", "--json").stdout)["runs"]
    assert (now["state"], now["reason"], now["message"]) == ("finished", None, None)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "ceiling"), [("max_requests", 90), ("max_tokens", 3000), ("max_cost_usd", 0.04)])
def test_a_ceiling_holds_through_kills(workplace: Any, serve: Any, name: str, ceiling: float) -> None:
    """Killed again and again under faults, the sessions of a run together never spend more than the ceiling."""
    server = serve("--delay-ms", "40", "--rate", "0.2", "--faults", "500,429,reset,truncated,drip")
    job = job_with(workplace, server.url, retry_for_s=60, **{name: ceiling})
    chance = random.Random(name)  # noqa: S311  no secret

    for _ in range(6):
        process = workplace.start("run", job, "--run", "r")
        time.sleep(chance.uniform(0.8, 2.0))
        process.kill()
        process.communicate()
        assert spent(server.calls())[name] <= ceiling
    last = workplace.run("run", job, "--run", "r")

    assert last.returncode == 4, last.stdout + last.stderr
    time.sleep(0.5)  # for what the server has not written down yet
    assert spent(server.calls())[name] <= ceiling

    job_with(workplace, server.url, retry_for_s=60)
    assert workplace.run("run", job, "--run", "r").returncode == 0
    rows = workplace.tables()["completions"]
    assert rows.height == PROMPTS
    # Who was billed more than once says so.
    billed = Counter(call["body"] for call in server.calls() if call["billed"])
    words = {json.loads(body)["messages"][-1]["content"]: times for body, times in billed.items()}
    prompts = workplace.tables()["prompts"]
    asked = dict(
        zip(prompts["prompt_id"], (json.loads(text)[-1]["content"] for text in prompts["messages"]), strict=True)
    )
    unsaid = [
        row["prompt_id"]
        for row in rows.iter_rows(named=True)
        if words[asked[row["prompt_id"]]] > 1 and not row["maybe_billed"]
    ]
    assert unsaid == []


@pytest.mark.slow
def test_a_kill_is_noted_on_the_answer(workplace: Any, serve: Any) -> None:
    """Calls under way at a kill are made again and marked, and their worst case counts as spent."""
    server = serve("--script", "hang*3")
    job = job_with(workplace, server.url, prompts=5, concurrency=3)
    process = workplace.start("run", job, "--run", "r")
    workplace.wait_until_sent(3)
    process.kill()
    process.communicate()

    again = workplace.run("run", job, "--run", "r", "--json")

    assert again.returncode == 0, again.stderr
    rows = workplace.tables()["completions"].sort("prompt_index")
    assert rows["maybe_billed"].to_list() == [True, True, True, False, False]
    summary = json.loads(again.stdout)
    bodies = [len(call["body"].encode()) for call in server.calls() if call["did"] == "answered"]
    assert summary["spent_requests"] == 8
    # Five answers, and three that were lost at their worst: a token a byte, and six of output.
    assert summary["spent_tokens"] == 5 * 13 + 3 * (bodies[0] + OUTPUT)
    assert workplace.run("verify", "store").returncode == 0


@pytest.mark.slow
def test_equal_prompts_cost_once(workplace: Any, serve: Any) -> None:
    """One of the equal prompts has the cost, and of several choices the first; another run's answers are free."""
    server = serve()
    params = {"temperature": 0, "max_tokens": OUTPUT, "n": 2}
    job = workplace.job(server.url, prompts=4, model={"params": params}, prices=PRICES)
    write_prompts(workplace.folder, {"id": ["a", "b", "c", "d"], "word": ["same", "same", "other", "same"]})
    assert workplace.run("run", job, "--run", "r").returncode == 0

    assert workplace.run("run", job, "--run", "s").returncode == 0

    once = (7 * 10 + 12 * 30) / 1e6  # 12 tokens: both choices
    rows = workplace.tables()["completions"].sort("run", "completion_id")
    costs = [once, 0.0, 0.0, 0.0, once, 0.0, 0.0, 0.0]
    assert rows.filter(pl.col("run") == "r")["cost_usd"].to_list() == pytest.approx(costs)
    assert rows.filter(pl.col("run") == "s")["cost_usd"].to_list() == [0.0] * 8
    runs = ls.open_store(workplace.folder / "store").runs.sort("run").collect()
    assert runs["spent_usd"].to_list() == pytest.approx([2 * once, 0.0])
    assert "spent_usd" in workplace.run("status", "store").stdout


@pytest.mark.slow
def test_without_a_cache_a_kill_is_noted_too(workplace: Any, serve: Any) -> None:
    """An answer that is in no part yet is lost at a kill: it counts as spent, and the next answer is marked."""
    server = serve("--script", "ok*3, hang")
    job = workplace.job(server.url, prompts=4, concurrency=1, cache={"path": None, "mode": "off"}, prices=PRICES)
    process = workplace.start("run", job, "--run", "r")
    while len(server.calls()) < 3:
        time.sleep(0.02)
    time.sleep(0.5)
    process.kill()
    process.communicate()

    assert workplace.run("run", job, "--run", "r").returncode == 0

    assert workplace.tables()["completions"]["maybe_billed"].to_list() == [True] * 4


@pytest.mark.slow
def test_an_answer_counts_the_same_after_a_kill(workplace: Any, serve: Any) -> None:
    """A prompt of 5000 bytes is said to have 7 tokens: that is not believed, and not by the session after a kill."""
    server = serve()
    job = job_with(workplace, server.url, prompts=4, concurrency=1, max_tokens=1_000_000)
    job.write_text(job.read_text().replace("{word} please", "{word} please" + "!" * 5000), encoding="utf-8")

    command = [sys.executable, "-c", DIES, "run", job, "--run", "r"]
    killed = subprocess.run(command, cwd=workplace.folder, capture_output=True, check=False)
    summary = json.loads(workplace.run("run", job, "--run", "r", "--json").stdout)

    assert killed.returncode == -signal.SIGKILL
    assert len(server.calls()) == summary["spent_requests"]
    assert summary["spent_tokens"] > 5000 * summary["spent_requests"]
