"""Parts of the job without a server, each in a process of its own: cached answers, decoding, size, memory.

    python benchmarks/stages.py fill FOLDER '1 x 5' 100000   # prompts, and a cache that has all their answers
    python benchmarks/stages.py run FOLDER                   # the job over it: decode, write, commit; or a rerun
    python benchmarks/stages.py decode FOLDER                # the same answers, only decoded and written
    python benchmarks/stages.py parse FOLDER                 # simdjson over the same answers: the limit
    python benchmarks/stages.py size FOLDER                  # what is on disk

Each prints one line of JSON. A finished run of a million prompts is made so, as `fill` takes a minute where asking
would take ten; the answers in the cache are what the server would have said, under the keys of the job's own requests.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections import deque
from concurrent.futures import Future
from itertools import count, cycle
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl
from answers import SIZES, make_bodies
from contestants import write_job

import logprob_store as ls
from logprob_store.cache.answers import AnswerCache
from logprob_store.request import Answer
from logprob_store.run.api import run_job  # here, so that no measurement holds the imports
from logprob_store.run.memory_settings import set_up_for_a_run
from logprob_store.run.parts import PARTS_IN_FLIGHT, Committer, PartContents
from logprob_store.run.plan import plan_job
from logprob_store.store.opening import open_run

if TYPE_CHECKING:
    from collections.abc import Iterator

_URL: Final = "http://127.0.0.1:9/v1"
_SAMPLE_BYTES: Final = 500 << 20


def fill(folder: Path, size: str, prompts: int) -> dict[str, float]:
    """Prompts, a job, and a cache with an answer for each."""
    job = ls.load_job(write_job(folder, _URL, size, prompts))
    bodies = cycle(make_bodies(SIZES[size]))
    numbers = count()
    raw = 0
    started = time.perf_counter()
    with AnswerCache(job.resolve(job.cache.path)) as cache:
        for chunk in plan_job(job).chunks():
            answers = []
            for request in chunk.requests:
                # An id of its own for each, as a server gives it.
                body = next(bodies).replace(b"chatcmpl-", b"chatcmpl-%06d" % next(numbers), 1)
                raw += len(body)
                answers.append(Answer(request, 200, {"content-type": "application/json"}, body, "api", run="before"))
            cache.put_many(answers)
    return {"raw_mb": raw / 1e6, "seconds": time.perf_counter() - started}


def run(folder: Path) -> dict[str, float]:
    """The whole job over what `fill` has made; the second time it is the rerun of a finished run."""
    job = ls.load_job(folder / "job.toml")
    started, cpu = time.perf_counter(), time.process_time()
    summary = run_job(job, run="bench")
    seconds = time.perf_counter() - started
    if summary.state != "finished" or summary.failures or summary.calls:
        raise SystemExit(f"the job did not finish from the cache: {summary}")
    return {
        "seconds": seconds,
        "cpu_s": time.process_time() - cpu,
        "prompts": summary.total,
        "tokens": summary.tokens,
        "peak_mb": _peak_mb(),
    }


def decode(folder: Path) -> dict[str, float]:
    """Raw bytes to committed Parquet, and nothing else: no cache, no prompts, no event loop."""
    job = ls.load_job(folder / "job.toml")
    answers = list(_answers(folder))
    megabytes = sum(len(answer.body) for answer in answers) / 1e6
    parts = [answers[first : first + each] for each in [_per_part(answers)] for first in range(0, len(answers), each)]
    started, cpu = time.perf_counter(), time.process_time()
    with (
        set_up_for_a_run(),
        open_run(folder / "decoded", "bench", job_name="bench", job=job.identity(), inputs=[], samples=1) as writer,
    ):
        committer = Committer(writer)
        under_way = deque[Future[object]]()
        for part in parts:
            if len(under_way) == PARTS_IN_FLIGHT:
                under_way.popleft().result()
            under_way.append(committer.submit(PartContents(answers=part)))
        for committing in under_way:
            committing.result()
        committer.close()
        writer.finish("finished")
    seconds = time.perf_counter() - started
    cpu_s = time.process_time() - cpu
    return {"mb_per_s": megabytes / seconds, "mb_per_cpu_s": megabytes / cpu_s, "mb": megabytes, "seconds": seconds}


def parse(folder: Path) -> dict[str, float]:
    """Simdjson, one thread, builds its tape and no Python object."""
    import simdjson

    bodies = [answer.body for answer in _answers(folder)]
    megabytes = sum(map(len, bodies)) / 1e6
    parser = simdjson.Parser()
    started = time.perf_counter()
    for body in bodies:
        parser.parse(body)
    return {"mb_per_s": megabytes / (time.perf_counter() - started)}


def size(folder: Path) -> dict[str, float]:
    """Bytes of the tables, of the cache, and what they hold."""
    store = ls.open_store(folder / "store")
    tables = sum(path.stat().st_size for path in (folder / "store").rglob("*.parquet"))
    cache = sum(path.stat().st_size for path in (folder / "cache").rglob("*") if path.is_file())
    alternatives = store.alternatives.select(pl.len()).collect().item()
    return {"tables_mb": tables / 1e6, "cache_mb": cache / 1e6, "bytes_an_alternative": tables / alternatives}


def _answers(folder: Path) -> Iterator[Answer]:
    """Cached answers with their requests, at most some 500 MB of them."""
    job = ls.load_job(folder / "job.toml")
    read = 0
    with AnswerCache(job.resolve(job.cache.path)) as cache:
        for chunk in plan_job(job).chunks():
            for request in chunk.requests:
                cached = cache.get(request.key)
                if cached is None:
                    raise SystemExit(f"no cached answer for prompt {request.prompt_id}")
                yield cached.answer(request)
                read += len(cached.body)
                if read > _SAMPLE_BYTES:
                    return


def _per_part(answers: list[Answer]) -> int:
    """As many answers as the job puts into a part."""
    return max(1, (32 << 20) // (len(answers[0].body) + 200))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


STAGES: Final = {"run": run, "decode": decode, "parse": parse, "size": size}


def main() -> None:
    """Run the stage that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=["fill", *STAGES])
    parser.add_argument("folder", type=Path)
    parser.add_argument("size", nargs="?", choices=list(SIZES))
    parser.add_argument("prompts", nargs="?", type=int)
    given = parser.parse_args()
    if given.stage == "fill":
        given.folder.mkdir(parents=True, exist_ok=True)
        result = fill(given.folder, given.size, given.prompts)
    else:
        result = STAGES[given.stage](given.folder)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
