"""Recording: the answers to a job's prompts, as fixtures.

Holds the way from a job to a fixtures file. Leaves out the format (`fixtures`) and asking (`asking`): recording is a
run that writes lines instead of tables.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from logprob_store.errors import CallError
from logprob_store.fixtures import Recordings, write_fixtures
from logprob_store.planning import check_plan, plan_job
from logprob_store.wiring import open_asker, open_cache, open_transport

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.asking import Asker
    from logprob_store.job import Job
    from logprob_store.planning import Plan
    from logprob_store.request import Answer, Request


@dataclass(slots=True)
class Recorded:
    """What recording did; `problems` names the prompts without an answer."""

    path: Path
    lines: int = 0
    calls: int = 0
    from_cache: int = 0
    kept: int = 0
    problems: list[str] = field(default_factory=list)


async def record_job(
    job: Job,
    fixtures: Path,
    *,
    limit: int | None = None,
    api_key: str | None = None,
    cached_only: bool = False,
) -> Recorded:
    """Write the answers to a job's prompts to `<fixtures>/<job>.jsonl`.

    What the file has already is kept and not asked again, unless the cache mode is `refresh`; then the cache is
    looked at, then the server asked.

    Args:
        job: from `load_job`.
        fixtures: a folder, or the `.jsonl` or `.jsonl.zst` file itself.
        limit: only the first so many prompts.
        api_key: for the server.
        cached_only: make no call; prompts without an answer in the cache are problems.

    Raises:
        InputError: the job, its prompts or the fixtures file are wrong.
        StopRunError: no call can succeed; what was answered before is in the cache.
    """
    path = fixtures if fixtures.name.endswith((".jsonl", ".jsonl.zst")) else fixtures / f"{job.name}.jsonl"
    before = Recordings(path) if path.exists() else None
    plan = plan_job(job, limit=limit)
    await asyncio.to_thread(check_plan, plan)
    done = Recorded(path)
    wanted = [] if before is None or job.cache.mode == "refresh" else [fixture.key for fixture in before]
    requests = _requests(plan, set(wanted), done)
    if cached_only:
        answers = _from_cache(job, requests, done)
    else:
        # A name that no answer in the cache has: in mode `refresh` none of them counts.
        recording = uuid.uuid4().hex
        async with (
            open_transport(job, api_key=api_key) as transport,
            open_asker(job, transport, run=recording) as asker,
        ):
            answers = await _ask(asker, requests, done)
            done.calls = asker.calls
    done.lines = write_fixtures(path, answers, keep=before)
    return done


def _requests(plan: Plan, have: set[str], done: Recorded) -> list[Request]:
    requests = []
    for chunk in plan.chunks():
        done.problems += [f"prompt {bad.prompt_id!r}: {bad.problem}" for bad in chunk.bad]
        requests += [request for request in chunk.requests if request.key not in have]
        done.kept += sum(request.key in have for request in chunk.requests)
    return requests


def _from_cache(job: Job, requests: list[Request], done: Recorded) -> list[Answer]:
    answers = []
    with open_cache(job) as cache:
        for request in requests:
            cached = None if cache is None else cache.get(request.key)
            if cached is None:
                done.problems.append(f"prompt {request.prompt_id!r}: not in the cache")
            else:
                answers.append(cached.answer(request))
    done.from_cache = len(answers)
    return answers


async def _ask(asker: Asker, requests: list[Request], done: Recorded) -> list[Answer]:
    found = await asker.look_up(requests)
    done.from_cache = len(found)

    async def one(request: Request) -> Answer | None:
        try:
            return found.get(request.key) or await asker.ask(request)
        except CallError as error:
            done.problems.append(f"prompt {request.prompt_id!r}: {error}")
            return None

    tasks = [asyncio.create_task(one(request)) for request in requests]
    try:
        answers = await asyncio.gather(*tasks)
    finally:
        # When the run is to stop no further call is made.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [answer for answer in answers if answer is not None]
