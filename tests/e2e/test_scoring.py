"""Scoring end to end: kills, the command line, and a real server that ignores `echo`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from builders import write_job, write_prompts

import logprob_store as ls
from logprob_store.store.manifest import manifest_path, read_manifest

REPO = Path(__file__).parents[2]
VARY = ("source", "maybe_billed")
"""What a kill may change: where an answer came from, and whether one before it was lost."""

PROMPTS = 120


def job_file(folder: Path, url: str, **model: Any) -> Path:
    """A quiz whose prompts have one to four candidates."""
    columns = {
        "id": [f"p{n}" for n in range(PROMPTS)],
        "question": [f"Question {n}:" for n in range(PROMPTS)],
        "answers": [[f" answer-{n}-{m}" for m in range(n % 4 + 1)] for n in range(PROMPTS)],
    }
    write_prompts(folder, columns)
    return write_job(
        folder,
        url,
        prompts={"id": "id", "prompt": "question", "continuations": "answers"},
        model={"mode": "score", "endpoint": "completions", "provider": "test", **model},
        limits={"concurrency": 8},
        store={"part_bytes": 40_000},
    )


@pytest.mark.slow
def test_killed_and_gone_on_with(workplace: Any, serve: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Killed with -9 four times, a run has the tables of a calm one and one interval of calls; it repeats few calls."""
    server = serve("--delay-ms", "40")
    calm = type(workplace)(tmp_path_factory.mktemp("calm"))
    assert calm.run("run", job_file(calm.folder, server.url), "--run", "r").returncode == 0
    before = len(server.calls())
    job = job_file(workplace.folder, server.url)

    for _ in range(4):
        process = workplace.start("run", job, "--run", "r")
        asked = len(server.calls())
        while len(server.calls()) < asked + 40 and process.poll() is None:
            time.sleep(0.02)
        process.kill()
        process.communicate()
    last = workplace.run("run", job, "--run", "r", "--json")
    again = workplace.run("run", job, "--run", "r")

    assert last.returncode == 0, last.stderr
    summary = json.loads(last.stdout)
    assert (summary["total"], summary["completions"]) == (300, 300)
    assert "nothing had to be asked again" in again.stdout
    expected, actual = calm.tables(), workplace.tables()
    for name, rows in expected.items():
        assert actual[name].drop(*VARY, strict=False).equals(rows.drop(*VARY, strict=False)), name
    manifest = read_manifest(manifest_path(workplace.folder / "store", "r"))
    assert (manifest.settled, manifest.samples, manifest.absent) == ([(0, 480)], 4, 180)
    asked_twice = Counter(call["body"] for call in server.calls()[before:])
    assert len(asked_twice) == 300
    # A kill loses at most the 8 calls under way and the answers of as many that are on their way to the disk.
    assert sum(asked_twice.values()) <= 300 + 4 * 16


@pytest.mark.slow
def test_scores_on_the_command_line(workplace: Any, serve: Any) -> None:
    """`scores` lists the candidates of each prompt by likelihood, `--dry-run` counts them, and `-o` writes all."""
    job = job_file(workplace.folder, serve().url)
    dry = workplace.run("run", job, "--dry-run")
    assert workplace.run("run", job, "--run", "r", "--limit", "4").returncode == 0

    listed = workplace.run("scores", "store", "--json")
    shown = workplace.run("scores", "store")
    written = workplace.run("scores", "store", "-o", "scores.parquet", "--sort", "loglikelihood")

    assert "300 calls" in dry.stdout
    rows = json.loads(listed.stdout)
    assert [row["rank"] for row in rows] == [1, 1, 2, 1, 2, 3, 1, 2, 3, 4]
    assert "loglikelihood" in shown.stdout
    assert written.returncode == 0
    assert pl.read_parquet(workplace.folder / "scores.parquet").height == 10


@pytest.mark.slow
def test_a_part_taken_out_is_filled_in(workplace: Any, serve: Any) -> None:
    """After a repair the run fills in the lost rows from the cache."""
    server = serve()
    job = job_file(workplace.folder, server.url)
    assert workplace.run("run", job, "--run", "r").returncode == 0
    whole = workplace.tables()
    parts = sorted((workplace.folder / "store" / "tokens" / "run=r").glob("*.parquet"))
    assert len(parts) > 2
    parts[1].write_bytes(b"damaged")
    mended = workplace.run("verify", "store", "--repair")
    lost = int(mended.stdout.split("answers lost: ")[1].split(".")[0])
    filled = json.loads(workplace.run("run", job, "--run", "r", "--json").stdout)

    assert 0 < lost < 300
    assert (filled["total"], filled["already"], filled["calls"], filled["state"]) == (300, 300 - lost, 0, "finished")
    for name, rows in whole.items():
        assert workplace.tables()[name].drop("source", strict=False).equals(rows.drop("source", strict=False)), name
    manifest = read_manifest(manifest_path(workplace.folder / "store", "r"))
    assert manifest.settled == [(0, 480)]


@pytest.mark.live
@pytest.mark.parametrize("score_by", ["echo", "prompt_logprobs"])
def test_llama_cpp_does_not_score(workplace: Any, score_by: str) -> None:
    """The real server ignores both ways to ask; the run stops with a message, and stores no score."""
    pytest.importorskip("xllamacpp", reason="needs the extra `local`")
    command = [sys.executable, REPO / "jobs" / "local_server.py", "--threads", "1"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        url = server.stderr.readline().strip().rpartition(" ")[2]
        job = job_file(workplace.folder, url, score_by=score_by)
        done = workplace.run("run", job, "--run", "r")
    finally:
        server.kill()
        server.communicate()

    assert done.returncode == 4, done.stdout + done.stderr
    assert "scores its text: the answer holds no logprobs of the text that was sent" in done.stdout
    store = ls.open_store(workplace.folder / "store")
    # What a slow server has not answered a few seconds later is interrupted.
    assert "echo_ignored" in set(store.failures.collect()["error_type"]) <= {"echo_ignored", "interrupted"}
    assert store.completions.collect().is_empty()
