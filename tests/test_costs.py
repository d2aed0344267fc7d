"""The cost of an answer in calls, memory and syncs: numbers that are the same on any machine, without a clock.

Each bound is somewhat above the number measured on the date beside it. A bound that is exceeded shows that a gain was
lost (docs/performance.md); one that is far from reached may be lowered.
"""

from __future__ import annotations

import asyncio
import gc
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

import pytest
from builders import answer_to, chat_request, requests_of, write_job, write_prompts

import logprob_store as ls
from logprob_store.cache.answers import AnswerCache
from logprob_store.decode.bulk.scan_loop import load_scan_loop
from logprob_store.decode.decoder import decode_answers
from logprob_store.transport.live import live_transport

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

    from logprob_store.request import Answer

needs_scan_loop = pytest.mark.skipif(load_scan_loop() is None, reason="scan_loop.c was not compiled here")

CACHED_CALLS = 300
"""Calls of Python and C functions for a cached answer on its way to the tables; 214 on 2026-11-22, 284 on 2026-11-26,
with tiers, decisions and what else an answer may say."""

LIVE_CALLS = 560
"""Function calls for one call of the live transport; 439 on 2026-11-22, 2770 when the SDK built each request."""

SEARCHES = 4
"""Searches for garbage while a thousand cached answers go into a part; 1 on 2026-11-22, 50 with Python's default."""

SYNCS = 44
"""Syncs of a run with one part: files, folders, and the manifest and its copy at start, once there is a log of calls,
at commit and at the end; 41 on 2026-11-26."""

STATEMENTS = 7
"""SQL statements to cache an answer, those of triggers included; 6 on 2026-11-22."""

WORDS = [" the", " of", "Zürich", "\n", ' "so"', " 東京", ".", "ing", " 42", "e"]


class Counted:
    """Counts calls of Python functions and of C functions, in this thread and in those started meanwhile."""

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
    """One answer to each of `count` prompts."""
    requests = [chat_request(str(index), prompt_index=index, logprobs=True, top_logprobs=5) for index in range(count)]
    return [answer_to(request, body(tokens, seed=request.prompt_index)) for request in requests]


def job_over(folder: Path, prompts: int) -> ls.Job:
    """A job over `prompts` prompts, with all their answers in its cache."""
    folder.mkdir()
    write_prompts(folder, {"text": [f"Question {number}" for number in range(prompts)]})
    job = ls.load_job(write_job(folder, "http://127.0.0.1:9/v1"))
    with AnswerCache(folder / "cache") as cache:
        cache.put_many([answer_to(one, body(1, seed=one.prompt_index), run="r") for one in requests_of(job)])
    return job


def calls_of(work: Callable[[], object]) -> Counter[str]:
    """The calls that a piece of work makes."""
    with Counted() as counted:
        work()
    return counted.calls


def per_answer(measure: Callable[[int], Counter[str]], few: int, many: int) -> float:
    """The calls for each further answer, once all is imported and set up: the difference of two runs."""
    measure(few)
    one, other = measure(few).total(), measure(many).total()
    return (other - one) / (many - few)


@needs_scan_loop
def test_decoding_makes_no_python_call_per_token() -> None:
    """Answers twice as long take as many calls, because only compiled code sees the tokens."""
    short, long = answers(20, tokens=64), answers(20, tokens=128)
    decode_answers(short, scanner_min_bytes=0)

    ones = calls_of(lambda: decode_answers(short, scanner_min_bytes=0)).total()
    others = calls_of(lambda: decode_answers(long, scanner_min_bytes=0)).total()

    # 20 x 64 more tokens, each with 5 alternatives, took no further call on 2026-11-22.
    assert others - ones < 64


@needs_scan_loop
def test_decoding_holds_no_python_object_per_token() -> None:
    """The memory that decoding takes in Python grows with the bytes of the JSON, not with its number of tokens."""

    def peak_to_size(some: list[Answer]) -> float:
        decode_answers(some, scanner_min_bytes=0)
        tracemalloc.start()
        decode_answers(some, scanner_min_bytes=0)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak / sum(len(answer.body) for answer in some)

    short = answers(40, tokens=128)
    # The same number of bytes in a fifth of the tokens.
    padding = b'"token":"' + b"long" * 60
    long = [replace(one, body=one.body.replace(b'"token":"', padding)) for one in answers(40, tokens=24)]

    # 1.5 and 1.1 on 2026-11-22; token by token it is 5.8 and 2.2.
    assert peak_to_size(short) < 1.6 * peak_to_size(long)


@needs_scan_loop
@pytest.mark.slow
def test_a_cached_answer_costs_few_calls(tmp_path: Path) -> None:
    """From the cache to committed tables, an answer of one token takes a bounded number of calls."""
    number = iter(range(9))

    def measure(prompts: int) -> Counter[str]:
        job = job_over(tmp_path / str(next(number)), prompts)
        return calls_of(lambda: ls.run_job(job, run="r"))

    assert per_answer(measure, 200, 800) < CACHED_CALLS


def test_a_run_that_asks_nothing_loads_no_sdk(tmp_path: Path) -> None:
    """It takes half a second to load, which a run with cached answers does not need."""
    job_over(tmp_path / "job", 3)
    program = """
import sys
import logprob_store as ls
summary = ls.run_job(ls.load_job(sys.argv[1]), run="r")
print(summary.state, summary.completions, [name for name in ("openai", "aiohttp") if name in sys.modules])
"""
    command = [sys.executable, "-c", program, str(tmp_path / "job" / "job.toml")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)

    assert done.stdout.splitlines()[-1] == "finished 3 []"


def test_a_live_call_costs_few_calls(fault_server: Any) -> None:
    """One call of the live transport takes a bounded number of function calls, aiohttp's included."""
    request = chat_request(max_tokens=1, logprobs=True)

    async def ask(count: int) -> Counter[str]:
        async with live_transport(base_url=fault_server.url, api_key="none", concurrency=2) as transport:
            await transport(request)
            with Counted() as counted:
                for _ in range(count):
                    await transport(request)
            return counted.calls

    assert per_answer(lambda count: asyncio.run(ask(count)), 5, 45) < LIVE_CALLS


def test_a_run_seldom_searches_for_garbage(tmp_path: Path) -> None:
    """A thousand answers that wait for their part cause few garbage collections."""
    ls.run_job(job_over(tmp_path / "first", 1), run="r")  # modules that are loaded cause collections of their own
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
    """Files and folders are synced once for each part, however many answers it has."""
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
    """A batch of answers is one commit, with a bounded number of SQL statements for each answer."""
    with AnswerCache(tmp_path) as cache:
        said: list[str] = []
        cache._disk._con.set_trace_callback(said.append)
        cache.put_many(answers(100, tokens=1))

    first_words = Counter(statement.split()[0] for statement in said)

    assert first_words["BEGIN"] == first_words["COMMIT"] == 1
    assert len(said) <= 100 * STATEMENTS + 10
