"""One contestant of the throughput benchmark, run once in a process of its own.

    python benchmarks/contestants.py sdk http://127.0.0.1:8000/v1 '128 x 5' 300

asks so many questions, `IN_FLIGHT` at once, and prints one line of JSON: requests a second, and CPU seconds a request
of this process alone. Start-up and imports are not counted, the whole of `run_job` is. Runs under any Python that has
the contestant's own library: litellm's is another environment than ours.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from answers import SIZES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

IN_FLIGHT: Final = 64


def question(number: int) -> str:
    """A prompt of usual length; each is different."""
    return f"Review {number}: the parcel came late and the box was open. Is this review positive? Answer Yes or No."


def body_of(number: int, size: str) -> dict[str, Any]:
    """The request, as all contestants make it."""
    return {
        "model": SIZES[size].model,
        "messages": [{"role": "user", "content": question(number)}],
        "logprobs": True,
        "top_logprobs": SIZES[size].top,
        "temperature": 0,
    }


async def _loop(count: int, call: Callable[[int], Awaitable[object]]) -> dict[str, float]:
    """Call `count` times, `IN_FLIGHT` at once; results are thrown away."""
    numbers = iter(range(count))

    async def one_after_another() -> None:
        for number in numbers:
            await call(number)

    clock = _Clock()
    await asyncio.gather(*[one_after_another() for _ in range(IN_FLIGHT)])
    return clock.result(count)


async def bare_aiohttp(url: str, size: str, count: int) -> dict[str, float]:
    """The limit: the bytes are read and nothing is done with them."""
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT)) as session:

        async def call(number: int) -> None:
            async with session.post(f"{url}/chat/completions", json=body_of(number, size)) as response:
                await response.read()

        return await _loop(count, call)


async def bare_sdk(url: str, size: str, count: int) -> dict[str, float]:
    """What the SDK's documentation shows."""
    import openai

    async with openai.AsyncOpenAI(base_url=url, api_key="bench", max_retries=0) as client:

        async def call(number: int) -> None:
            await client.chat.completions.create(**body_of(number, size))

        return await _loop(count, call)


async def litellm(url: str, size: str, count: int) -> dict[str, float]:
    """What litellm's documentation shows."""
    import litellm  # type: ignore[import-not-found]  # in an environment of its own

    litellm.suppress_debug_info = True
    litellm.telemetry = False

    async def call(number: int) -> None:
        body = body_of(number, size) | {"model": f"openai/{SIZES[size].model}"}
        await litellm.acompletion(**body, api_base=url, api_key="bench", max_retries=0)

    return await _loop(count, call)


def whole_job(url: str, size: str, count: int) -> dict[str, float]:
    """Prompts in Parquet to committed tables, with fresh cache and store on a real disk."""
    import logprob_store as ls
    import logprob_store.decode.bulk.scanner
    import logprob_store.transport.live

    disk = Path(__file__).parents[1] / "out"  # /tmp may be memory
    disk.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="benchmark-job-", dir=disk))
    try:
        job = ls.load_job(write_job(folder, url, size, count))
        clock = _Clock()
        summary = ls.run_job(job, run="bench")
        result = clock.result(count)
    finally:
        shutil.rmtree(folder)
    if (summary.state, summary.completions, summary.failures) != ("finished", count, 0):
        raise SystemExit(f"the job did not finish: {summary}")
    return result


def write_job(folder: Path, url: str, size: str, count: int) -> Path:
    """A job file and its prompts."""
    import polars as pl

    prompts = {"id": [str(number) for number in range(count)], "text": [question(number) for number in range(count)]}
    pl.DataFrame(prompts).write_parquet(folder / "prompts.parquet")
    path = folder / "job.toml"
    path.write_text(
        f"""
name = "bench"
[prompts]
path = "prompts.parquet"
id = "id"
prompt = "text"
[model]
name = "{SIZES[size].model}"
base_url = "{url}"
top_logprobs = {SIZES[size].top}
params = {{ temperature = 0 }}
[limits]
concurrency = {IN_FLIGHT}
[cache]
path = "cache"
[store]
path = "store"
""",
        encoding="utf-8",
    )
    return path


class _Clock:
    """Wall time, and this process's CPU time, since it was made."""

    def __init__(self) -> None:
        self._started = time.perf_counter(), time.process_time()

    def result(self, count: int) -> dict[str, float]:
        seconds = time.perf_counter() - self._started[0]
        cpu_s = time.process_time() - self._started[1]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"per_s": count / seconds, "cpu_ms": 1e3 * cpu_s / count, "peak_mb": peak, "seconds": seconds}


LOOPS: Final = {"aiohttp": bare_aiohttp, "sdk": bare_sdk, "litellm": litellm}


def main() -> None:
    """Run the contestant that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=[*LOOPS, "job"])
    parser.add_argument("url")
    parser.add_argument("size", choices=list(SIZES))
    parser.add_argument("count", type=int)
    given = parser.parse_args()
    if given.name == "job":
        result = whole_job(given.url, given.size, given.count)
    else:
        result = asyncio.run(LOOPS[given.name](given.url, given.size, given.count))
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
