"""The real llama.cpp server with a real model: the store holds what the server sends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import logprob_store as ls
from logprob_store.cache.answers import AnswerCache

if TYPE_CHECKING:
    from collections.abc import Iterator

REPO = Path(__file__).parents[2]

pytestmark = pytest.mark.live


class LlamaServer:
    """The real server in a process of its own."""

    def __init__(self, port: int = 0, *, temporary: Path | None = None) -> None:
        command = [sys.executable, REPO / "jobs" / "local_server.py", "--port", str(port), "--threads", "1"]
        env = os.environ if temporary is None else {**os.environ, "TMPDIR": str(temporary)}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
        assert self.process.stderr is not None
        self.url = self.process.stderr.readline().strip().rpartition(" ")[2]
        assert self.url.startswith("http://127.0.0.1:"), self.url

    def kill(self) -> None:
        """Kill the server, as a crash would."""
        self.process.kill()
        self.process.wait(10)
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture(scope="module")
def llama() -> Iterator[LlamaServer]:
    """One server for all tests of this file."""
    pytest.importorskip("xllamacpp", reason="needs the extra `local`")
    server = LlamaServer()
    yield server
    server.kill()


def job_file(
    folder: Path, url: str, *, endpoint: str, limit: int = 8, attempts: int = 6, retry_for_s: int = 60
) -> Path:
    """The demo's job over the first countries, live."""
    prompts = pl.read_parquet(REPO / "fixtures" / "capitals.parquet").head(limit)
    prompts.write_parquet(folder / "capitals.parquet")
    text = (REPO / "jobs" / "local.toml").read_text(encoding="utf-8")
    text = text.replace("../fixtures/capitals.parquet", "capitals.parquet").replace("../out/", "")
    text = text.replace("http://127.0.0.1:8080/v1", url).replace('"completions"', f'"{endpoint}"')
    path = folder / "job.toml"
    limits = f"concurrency = 4\nattempts = {attempts}\nretry_for_s = {retry_for_s}"
    path.write_text(text.replace("concurrency = 4", limits), encoding="utf-8")
    return path


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_rows_are_what_the_server_sent(llama: LlamaServer, workplace: Any, endpoint: str) -> None:
    """The tables hold every token, logprob, byte and alternative of the raw answers, in order."""
    job = job_file(workplace.folder, llama.url, endpoint=endpoint)
    done = workplace.run("run", job, "--run", "r")
    assert done.returncode == 0, done.stderr
    store = ls.open_store(workplace.folder / "local")
    completions = store.completions.sort("prompt_index").collect()
    assert completions["source"].to_list() == ["api"] * 8

    with AnswerCache(workplace.folder / "local-cache") as cache:
        bodies = [json.loads(cache.get(key).body) for key in completions["request_key"]]
    sent = [body["choices"][0]["logprobs"]["content"] for body in bodies]
    tokens = store.tokens.sort("completion_id", "position").collect()
    beside = store.alternatives.sort("completion_id", "position", "rank").collect()

    assert tokens["token"].to_list() == [token["token"] for answer in sent for token in answer]
    assert tokens["logprob"].to_list() == [token["logprob"] for answer in sent for token in answer]
    assert tokens["token_id"].to_list() == [token["id"] for answer in sent for token in answer]
    assert tokens["bytes"].to_list() == [bytes(token["bytes"]) for answer in sent for token in answer]
    top = [top for answer in sent for token in answer for top in token["top_logprobs"]]
    assert beside["token"].to_list() == [token["token"] for token in top]
    assert beside["logprob"].to_list() == [token["logprob"] for token in top]
    assert completions["prompt_tokens"].to_list() == [body["usage"]["prompt_tokens"] for body in bodies]


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_the_doctor_finds_the_server_well(llama: LlamaServer, workplace: Any, endpoint: str) -> None:
    """A real server is reached, and gives logprobs with as many alternatives as the job asks for."""
    done = workplace.run("doctor", job_file(workplace.folder, llama.url, endpoint=endpoint), "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}

    assert done.returncode == 0, done.stdout
    assert {name for name, check in checks.items() if check["state"] != "ok"} <= {"model"}
    assert checks["logprobs"]["said"] == "of each token, with 5 alternatives"


def test_recorded_answers_are_still_true(llama: LlamaServer, workplace: Any) -> None:
    """The model gives the answers of the committed fixtures, with nearly the same probabilities."""
    live = job_file(workplace.folder, llama.url, endpoint="completions", limit=8)
    assert workplace.run("run", live, "--run", "live").returncode == 0
    replayed = workplace.run("run", live, "--run", "replayed", "--transport", "replay", "--fixtures",
                             REPO / "fixtures" / "capitals.jsonl")  # fmt: skip
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr

    scores = ls.open_store(workplace.folder / "local").scores().sort("run", "prompt_index").collect()
    now, then = (scores.filter(run=run) for run in ("live", "replayed"))

    # A CPU rounds differently for other batches and cached prefixes: single probabilities move by a few percent, and an
    # answer that hung in the balance may tip.
    assert (now["text"] == then["text"]).sum() >= 7
    assert (now["confidence"] - then["confidence"]).abs().mean() < 0.1


def test_record_then_replay_gives_the_same_rows(llama: LlamaServer, workplace: Any) -> None:
    """`record`, then `run --transport replay`, stores what a live run stores."""
    job = job_file(workplace.folder, llama.url, endpoint="chat", limit=4)
    assert workplace.run("run", job, "--run", "live").returncode == 0
    recorded = workplace.run("record", job, "--fixtures", "fx")
    assert "4 from the cache" in recorded.stdout
    assert workplace.run("run", job, "--run", "r", "--transport", "replay", "--fixtures", "fx").returncode == 0

    store = ls.open_store(workplace.folder / "local")
    for table in ("tokens", "alternatives"):
        rows = getattr(store, table).collect()
        live, replayed = (rows.filter(run=run).drop("run") for run in ("live", "r"))
        assert live.equals(replayed)


def test_server_killed_midway(workplace: Any) -> None:
    """Calls to a dead server become failures that say so; once it is back, the same command answers them."""
    pytest.importorskip("xllamacpp", reason="needs the extra `local`")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = LlamaServer(port)
    job = job_file(workplace.folder, server.url, endpoint="completions", limit=24, attempts=2, retry_for_s=8)
    process = workplace.start("run", job, "--run", "r")
    cache = workplace.folder / "local-cache"
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if cache.exists():
            with AnswerCache(cache) as opened:
                if len(opened) >= 5:
                    break
        time.sleep(0.05)
    server.kill()
    try:
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()

    assert process.returncode == 3, out
    failures = ls.open_store(workplace.folder / "local").failures.collect()
    answered = ls.open_store(workplace.folder / "local").completions.collect().height
    assert answered >= 5
    assert set(failures["error_type"]) == {"connection"}
    assert failures.height + answered == 24

    server = LlamaServer(port)
    try:
        again = workplace.run("run", job, "--run", "r")
    finally:
        server.kill()
    assert again.returncode == 0, again.stdout + again.stderr
    store = ls.open_store(workplace.folder / "local")
    assert store.failures.collect().height == 0
    assert store.completions.collect()["prompt_index"].sort().to_list() == list(range(24))


def test_one_call_from_python(llama: LlamaServer, tmp_path: Path) -> None:
    """`ls.complete` asks once, shows probabilities, and then takes the answer from its cache."""
    ask = {"model": "gemma-3-270m", "max_tokens": 3, "temperature": 0, "base_url": llama.url, "api_key": "none"}

    first = ls.complete("one, two, three,", cache=tmp_path / "cache", **ask)
    second = ls.complete("one, two, three,", cache=tmp_path / "cache", **ask)

    assert (first.source, second.source) == ("api", "cache")
    assert first.text == second.text == " four, five"
    assert first.tokens.equals(second.tokens)
    assert 0 < first.confidence <= 1
    assert first.alternatives.height == 5 * first.tokens.height
    assert "four" in repr(first)


def test_demo_local(workplace: Any) -> None:
    """`jobs/demo.py --serve` over a few prompts runs the job, and a second time asks nothing."""
    pytest.importorskip("xllamacpp", reason="needs the extra `local`")
    job = job_file(workplace.folder, "http://127.0.0.1:1/v1", endpoint="completions", limit=4)
    done = subprocess.run(
        [sys.executable, REPO / "jobs" / "demo.py", job, "--serve"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    assert "4 from the server" in done.stdout
    assert "nothing had to be asked again" in done.stdout
    assert "mean_confidence" in done.stdout


def test_ctrl_c_ends_the_server(tmp_path: Path) -> None:
    """The server ends with its command line, and no process and no weights file are left."""
    pytest.importorskip("xllamacpp", reason="needs the extra `local`")
    server = LlamaServer(temporary=tmp_path)
    assert list(tmp_path.iterdir()) == []
    server.process.send_signal(signal.SIGINT)
    try:
        assert server.process.wait(30) == 130
    finally:
        server.kill()
