"""Recording: a run that writes the answers to a job's prompts as fixtures instead of tables.

The format of fixtures is in `replay.fixtures`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from logprob_store.cache.answers import open_cache
from logprob_store.errors import CallError, StopRunError
from logprob_store.replay.fixtures import Recordings, write_fixtures
from logprob_store.request import Answer
from logprob_store.run.asker import GRACE_S
from logprob_store.run.plan import check_plan, plan_job
from logprob_store.run.preflight import ModelCheck, refuse_hopeless_requests
from logprob_store.run.resources import open_asker_alone, open_transport, with_server

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from logprob_store.errors import Response
    from logprob_store.job import Job
    from logprob_store.request import Request
    from logprob_store.run.asker import Asker
    from logprob_store.run.plan import Plan


@dataclass(slots=True)
class Recorded:
    """What a recording did.

    `lines` counts the fixtures in the file, `calls` the calls made, `from_cache` the answers taken from the cache,
    `kept` the prompts whose answer the file had already, `refused` the refusals that were recorded. `problems` names
    the prompts without an answer, or without either.
    """

    path: Path
    lines: int = 0
    calls: int = 0
    from_cache: int = 0
    kept: int = 0
    refused: int = 0
    problems: list[str] = field(default_factory=list)


async def record_job(
    job: Job,
    fixtures: Path,
    *,
    limit: int | None = None,
    api_key: str | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
    cached_only: bool = False,
    refusals: bool = False,
) -> Recorded:
    """Write the answers to a job's prompts to `<fixtures>/<job>.jsonl`.

    An answer that the file has already is kept; another one is taken from the cache, or else asked for. In cache mode
    `refresh` all are asked for.

    Args:
        job: from `load_job`.
        fixtures: a folder, or the `.jsonl` or `.jsonl.zst` file itself.
        limit: the number of prompts to record, from the first; all when None.
        api_key: as for `open_transport`.
        variables: as for `open_transport`.
        cached_only: make no call; prompts without an answer in the cache are problems.
        refusals: record what the server last said where it gave no answer; then refusals alike stop nothing.

    Raises:
        InputError: the job, its prompts or the fixtures file are wrong, or the model would refuse every call.
        StopRunError: no further call can succeed, or a ceiling is reached; what was answered is in the file.
    """
    path = fixtures if fixtures.name.endswith((".jsonl", ".jsonl.zst")) else fixtures / f"{job.name}.jsonl"
    before = Recordings(path) if path.exists() else None
    plan = plan_job(job, limit=limit)
    await asyncio.to_thread(check_plan, plan)
    done = Recorded(path)
    wanted = [] if before is None or job.cache.mode == "refresh" else [fixture.key for fixture in before]
    requests = _requests(plan, set(wanted), done)
    stopped = None
    if cached_only:
        answers = _from_cache(job, requests, done)
    else:
        # Who records refusals wants those of the server.
        models = None if refusals else ModelCheck(job)
        if models is not None:
            refuse_hopeless_requests(job, requests, models)
        async with (
            open_transport(job, api_key=api_key, variables=variables) as transport,
            open_asker_alone(job, transport, watch_first=not refusals) as asker,
        ):
            answers, stopped = await _ask(asker, requests, done, models)
            done.calls = asker.calls
    done.lines = write_fixtures(path, answers, keep=before)
    if stopped is not None:
        raise with_server(stopped, job)
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
    with open_cache(job.cache_folder, file_mode=job.store.mode) as cache:
        for request in requests:
            cached = None if cache is None else cache.get(request.key)
            if cached is None:
                done.problems.append(f"prompt {request.prompt_id!r}: not in the cache")
            else:
                answers.append(cached.answer(request))
    done.from_cache = len(answers)
    return answers


async def _ask(
    asker: Asker, requests: list[Request], done: Recorded, models: ModelCheck | None
) -> tuple[list[Answer], StopRunError | None]:
    """The answers, and the error that stopped the recording early, None without one.

    With `models`, what they would refuse is not asked; without, refusals are answers too.
    """
    cached = await asker.look_up(requests)
    done.from_cache = len(cached)
    refusals = models is None

    stopping: list[Answer] = []  # the refusal that stops the recording

    async def one(request: Request) -> Answer | None:
        if request.key in cached:
            return asker.answer_from_cache(cached[request.key], request)
        try:
            return await _ask_one(asker, request, models)
        except CallError as error:
            if refusals and error.response is not None:
                done.refused += 1
                return _as_answer(error.response, request)
            done.problems.append(f"prompt {request.prompt_id!r}: {error}")
            return None
        except StopRunError as error:
            if refusals and error.response is not None and not stopping:
                stopping.append(_as_answer(error.response, request))
                done.refused += 1
            raise

    tasks = [asyncio.create_task(one(request)) for request in requests]
    stopped = None
    try:
        await asyncio.gather(*tasks)
        stopped = asker.reason_at_the_end
    except StopRunError as error:
        stopped = error
        await _let_finish(tasks, asker)
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    answers = [*stopping, *(answer for answer in outcomes if isinstance(answer, Answer))]
    return answers, stopped


async def _ask_one(asker: Asker, request: Request, models: ModelCheck | None) -> Answer:
    if models is not None and (failure := models.refused_row(request)) is not None:
        raise failure
    return await asker.ask(request)


def _as_answer(response: Response, request: Request) -> Answer:
    status, headers, body, received_at = response
    return Answer(request, status, headers, body, "api", fetched_at=received_at)


async def _let_finish(tasks: list[asyncio.Task[Answer | None]], asker: Asker) -> None:
    """Give calls at the server, which are paid for, a few seconds to finish; cancel all other tasks."""
    under_way = [task for task in tasks if task in asker.tasks_at_server]
    for task in tasks:
        if task not in asker.tasks_at_server:
            task.cancel()
    if under_way:
        await asyncio.wait(under_way, timeout=GRACE_S)
