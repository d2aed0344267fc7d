"""Two processes on one cache and one store: each question is answered, and paid for, once."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from builders import write_prompts

from logprob_store.store.call_log import RECORD_BYTES

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

PROMPTS = 120
CONCURRENCY = 8


def answered(server: Any) -> Counter[str]:
    """How often each question was answered."""
    return Counter(call["body"] for call in server.calls() if call["did"] == "answered")


def job_with_twins(workplace: Any, url: str) -> Path:
    """A job in which three prompts ask each question."""
    job: Path = workplace.job(url, prompts=0, concurrency=CONCURRENCY)
    words = [f"word-{n % (PROMPTS // 3)}" for n in range(PROMPTS)]
    write_prompts(workplace.folder, {"id": [f"p{n}" for n in range(PROMPTS)], "word": words})
    return job


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The last line that a process started with `--json` prints."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    said: dict[str, Any] = json.loads(out.splitlines()[-1])
    return said


@pytest.mark.slow
def test_different_runs_on_one_store_share_every_call(workplace: Any, serve: Any) -> None:
    """Two runs at once make no call twice, also for equal prompts within each, and hold the same rows."""
    server = serve("--delay-ms", "60")
    job = job_with_twins(workplace, server.url)

    said = [ended(process) for process in [workplace.start("run", job, "--run", run, "--json") for run in "ab"]]

    assert answered(server) == dict.fromkeys(answered(server), 1)
    assert len(answered(server)) == PROMPTS // 3
    assert sum(one["calls"] for one in said) == PROMPTS // 3
    texts = workplace.tables()["completions"].group_by("run").agg(pl.col("text").sort_by("prompt_index"))
    assert texts["text"].list.len().to_list() == [PROMPTS, PROMPTS]
    assert texts["text"][0].to_list() == texts["text"][1].to_list()


@pytest.mark.slow
def test_killed_midway_the_other_takes_over(workplace: Any, serve: Any) -> None:
    """When one of two runs is killed with -9, the other makes its calls under way again, and no other call twice."""
    server = serve("--delay-ms", "150")
    job = workplace.job(server.url, prompts=PROMPTS, concurrency=CONCURRENCY)
    first = workplace.start("run", job, "--run", "a")
    while len(server.calls()) < CONCURRENCY:
        time.sleep(0.02)
    second = workplace.start("run", job, "--run", "b", "--json")
    while len(server.calls()) < PROMPTS // 2:
        time.sleep(0.02)
    first.kill()
    first.communicate()
    said = ended(second)
    again = ended(workplace.start("run", job, "--run", "a", "--json"))

    counts = answered(server)
    assert len(counts) == PROMPTS
    # When their asker died, at most these were at the server, and as many had come and were not on disk yet.
    assert sum(counts.values()) <= PROMPTS + 2 * CONCURRENCY
    assert max(counts.values()) <= 2
    assert said["from_cache"] > 0
    assert again["calls"] == 0
    assert workplace.tables()["completions"]["run"].value_counts()["count"].to_list() == [PROMPTS, PROMPTS]


@pytest.mark.slow
def test_a_refused_call_is_made_by_each(workplace: Any, serve: Any) -> None:
    """A refusal is not shared: the run that waited makes the call itself."""
    server = serve("--delay-ms", "100", "--when", "word-1 =400,ok")
    job = workplace.job(server.url, prompts=4)

    ended_with = []
    for process in [workplace.start("run", job, "--run", run) for run in "ab"]:
        process.communicate(timeout=120)
        ended_with.append(process.returncode)

    assert sorted(ended_with) == [0, 3]
    assert Counter(call["step"] for call in server.calls()) == {"ok": 4, "400": 1}
    (failure,) = workplace.tables()["failures"].to_dicts()
    assert (failure["prompt_id"], failure["error_type"]) == ("p1", "invalid_request")


@pytest.mark.slow
def test_a_stopped_process_stops_no_other(workplace: Any, serve: Any) -> None:
    """While a process is stopped with claims on its calls, another one asks for all that is its own, then gives up.

    It says for whom it waits; the next session of it gets the answers that the first one had begun.
    """
    server = serve("--delay-ms", "1000")  # long enough for it to be stopped before it writes an answer
    first = workplace.start("run", workplace.job(server.url, prompts=PROMPTS, concurrency=CONCURRENCY), "--run", "a")
    begun = workplace.folder / "store/runs/run=a/calls.log"
    while not begun.exists() or begun.stat().st_size < CONCURRENCY * RECORD_BYTES:
        time.sleep(0.02)
    first.send_signal(signal.SIGSTOP)
    job = workplace.job(server.url, prompts=2 * PROMPTS, concurrency=5 * CONCURRENCY, limits={"retry_for_s": 12})
    second = workplace.start("run", job, "--run", "b", "--json")
    out, err = second.communicate(timeout=120)
    first.send_signal(signal.SIGCONT)
    first.communicate(timeout=120)
    third = ended(workplace.start("run", job, "--run", "b", "--json"))

    assert second.returncode == 3, err
    said = json.loads(out.splitlines()[-1])
    assert 0 < said["failures"] <= 2 * CONCURRENCY
    assert said["completions"] == 2 * PROMPTS - said["failures"]
    assert f"process {first.pid}" in err
    assert "which is stopped" in err
    assert (third["calls"], third["failures"], third["completions"]) == (0, 0, 2 * PROMPTS)
    assert set(answered(server).values()) == {1}
