"""What an answer costs, counted: calls, memory, syncs. The numbers are the same on any machine, so no clock is needed.

Each bound is some way above the figure of the day it was set, which stands beside it. One that is passed shows that
a gain was lost (docs/performance.md); one that is far from reached may be lowered.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import random
import subprocess
import sys
import threading
import tracemalloc
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import polars as pl
import pytest

import logprob_store as ls
from logprob_store.cache.answers import AnswerCache
from logprob_store.decode.decoder import decode_answers
from logprob_store.request import Answer, make_request
from logprob_store.run.plan import plan_job
from logprob_store.transport.live import live_transport

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

CACHED_CALLS = 280
"""Calls, of Python and of C functions, for a cached answer on its way to the tables; 214 on 2026-11-22."""

LIVE_CALLS = 560
"""The same for one call of the live transport; 439 on 2026-11-22, and 2770 when the SDK made each request anew."""

SEARCHES = 4
"""Searches for garbage while a thousand cached answers go into a part; 1 on 2026-11-22, 50 with Python's default."""

SYNCS = 36
"""Syncs of a run with one part: files, folders, manifests at its begin, commit and end; 30 on 2026-11-22."""

STATEMENTS = 7
"""Statements of SQL for an answer that is cached, those of triggers included; 6 on 2026-11-22."""

WORDS = [" the", " of", "Zürich", "\n", ' "so"', " 東京", ".", "ing", " 42", "e"]


class Counted:
    """Python calls, and calls of C functions from Python, in this thread and those started meanwhile."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def __enter__(self) -> Self:
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _note(self, _frame: FrameType, event: str, _argument: object) -> None:
        if event in {"call", "c_call"}:
            self.calls[event] += 1


def body(tokens: int, top: int = 5, *, seed: int = 0) -> bytes:
    """A chat completion as OpenAI writes it."""
    chance = random.Random(seed)  # noqa: S311  no secrets are made here

    def entry() -> dict[str, Any]:
        word = chance.choice(WORDS)
        return {"token": word, "logprob": -chance.expovariate(1), "bytes": list(word.encode())}

    content = [entry() | {"top_logprobs": [entry() for _ in range(top)]} for _ in range(tokens)]
    text = "".join(token["token"] for token in content)
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {
        "index": 0,
        "message": message,
        "logprobs": {"content": content, "refusal": None},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens}
    whole = {"id": f"chatcmpl-{seed}", "object": "chat.completion", "created": 1_790_000_000, "model": "m"}
    return json.dumps(whole | {"choices": [choice], "usage": usage}, separators=(",", ":")).encode()


def answers(count: int, *, tokens: int) -> list[Answer]:
    """Answers to as many prompts."""
    asked = {"model": "m", "logprobs": True, "top_logprobs": 5}
    made = []
    for number in range(count):
        prompt = [{"role": "user", "content": str(number)}]
        request = make_request(asked | {"messages": prompt}, endpoint="chat", provider="p", prompt_index=number)
        made.append(Answer(request, 200, {}, body(tokens, seed=number), "api"))
    return made


def job_over(folder: Path, prompts: int) -> ls.Job:
    """A job over so many prompts, with all their answers in its cache."""
    folder.mkdir()
    pl.DataFrame({"text": [f"Question {number}" for number in range(prompts)]}).write_parquet(folder / "p.parquet")
    (folder / "job.toml").write_text(
        """
        name = "costs"
        prompts = { path = "p.parquet", prompt = "text" }
        model = { name = "m", base_url = "http://127.0.0.1:9/v1" }
        cache = { path = "cache" }
        store = { path = "store" }
        """,
        encoding="utf-8",
    )
    job = ls.load_job(folder / "job.toml")
    with AnswerCache(folder / "cache") as cache:
        for chunk in plan_job(job).chunks():
            found = [Answer(one, 200, {}, body(1, seed=one.prompt_index), "api", run="r") for one in chunk.requests]
            cache.put_many(found)
    return job


def calls_of(work: Callable[[], object]) -> Counter[str]:
    """What a piece of work calls."""
    with Counted() as counted:
        work()
    return counted.calls


def per_answer(measure: Callable[[int], Counter[str]], few: int, many: int) -> float:
    """Calls for each answer more, once all is imported and set up: the difference of two runs."""
    measure(few)
    one, other = measure(few).total(), measure(many).total()
    return (other - one) / (many - few)


def test_decoding_makes_no_python_call_per_token() -> None:
    """Answers twice as long take as many calls: tokens are seen by compiled code alone."""
    short, long = answers(20, tokens=64), answers(20, tokens=128)
    decode_answers(short, scanner_min_bytes=0)

    ones = calls_of(lambda: decode_answers(short, scanner_min_bytes=0)).total()
    others = calls_of(lambda: decode_answers(long, scanner_min_bytes=0)).total()

    # 20 x 64 tokens more, each with 5 alternatives; not one call more on 2026-11-22.
    assert others - ones < 64


def test_decoding_holds_no_python_object_per_token() -> None:
    """What Python allocates while it decodes goes with the bytes of the JSON, not with the number of tokens in it."""

    def peak_to_size(some: list[Answer]) -> float:
        decode_answers(some, scanner_min_bytes=0)
        tracemalloc.start()
        decode_answers(some, scanner_min_bytes=0)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak / sum(len(answer.body) for answer in some)

    short = answers(40, tokens=128)
    # As many bytes, in a fifth of the tokens.
    padding = b'"token":"' + b"long" * 60
    long = [replace(one, body=one.body.replace(b'"token":"', padding)) for one in answers(40, tokens=24)]

    # 1.5 and 1.1 on 2026-11-22; token by token it is 5.8 and 2.2.
    assert peak_to_size(short) < 1.6 * peak_to_size(long)


@pytest.mark.slow
def test_a_cached_answer_costs_few_calls(tmp_path: Path) -> None:
    """From the cache to committed tables, an answer of one token takes a bounded number of calls."""
    # In a part of the usual size the scanner is used. It is for these small parts, too, once it is loaded.
    importlib.import_module("logprob_store.decode.bulk.scanner")
    number = iter(range(9))

    def measure(prompts: int) -> Counter[str]:
        job = job_over(tmp_path / str(next(number)), prompts)
        return calls_of(lambda: ls.run_job(job, run="r"))

    assert per_answer(measure, 200, 800) < CACHED_CALLS


def test_a_run_that_asks_nothing_loads_neither_sdk_nor_scanner(tmp_path: Path) -> None:
    """Each takes half a second to load, for which a run of cached or few answers does not wait."""
    job_over(tmp_path / "job", 3)
    program = """
import sys
import logprob_store as ls
summary = ls.run_job(ls.load_job(sys.argv[1]), run="r")
print(summary.state, summary.completions, [name for name in ("openai", "aiohttp", "numba") if name in sys.modules])
"""
    command = [sys.executable, "-c", program, str(tmp_path / "job" / "job.toml")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)

    assert done.stdout.splitlines()[-1] == "finished 3 []"


def test_a_live_call_costs_few_calls(fault_server: Any) -> None:
    """The transport takes a bounded number of calls for an answer, aiohttp's included."""
    asked = {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1, "logprobs": True}
    request = make_request(asked, endpoint="chat", provider="p")

    async def ask(count: int) -> Counter[str]:
        async with live_transport(base_url=fault_server.url, api_key="none", concurrency=2) as transport:
            await transport(request)
            with Counted() as counted:
                for _ in range(count):
                    await transport(request)
            return counted.calls

    assert per_answer(lambda count: asyncio.run(ask(count)), 5, 45) < LIVE_CALLS


def test_a_run_seldom_searches_for_garbage(tmp_path: Path) -> None:
    """Answers that wait for their part are not searched for cycles again and again."""
    job = job_over(tmp_path / "job", 1000)
    searches: list[str] = []

    def note(phase: str, _: dict[str, int]) -> None:
        searches.append(phase)

    gc.callbacks.append(note)
    try:
        ls.run_job(job, run="r")
    finally:
        gc.callbacks.remove(note)

    assert searches.count("start") <= SEARCHES


def test_a_part_takes_few_syncs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and folders are synced once for each part, whatever the number of answers."""
    synced: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(descriptor), fsync(descriptor)))

    def syncs(prompts: int) -> int:
        job = job_over(tmp_path / str(prompts), prompts)
        synced.clear()
        summary = ls.run_job(job, run="r")
        assert summary.completions == prompts
        return len(synced)

    few, many = syncs(10), syncs(300)

    assert few == many
    assert many <= SYNCS


def test_answers_are_cached_in_one_transaction(tmp_path: Path) -> None:
    """A batch of answers is one commit, with a bounded number of statements for each answer."""
    with AnswerCache(tmp_path) as cache:
        said: list[str] = []
        cache._disk._con.set_trace_callback(said.append)
        cache.put_many(answers(100, tokens=1))

    first_words = Counter(statement.split()[0] for statement in said)

    assert first_words["BEGIN"] == first_words["COMMIT"] == 1
    assert len(said) <= 100 * STATEMENTS + 10
