"""A run: a job's prompts through cache and transport into the store.

Holds the pump (what is under way, in bounded memory) and `run_job`, the public way in. Leaves out everything that has
a module of its own: requests (`planning`), answers (`asking`), rows (`decode`), files (`store.writing`).

    chunks of requests -> cached? -> else ask, a bounded number at once -> buffer -> decode and commit in a thread
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final

from logprob_store.errors import CallError, StopRunError
from logprob_store.parts import PartBuffer
from logprob_store.planning import BadCall, Chunk, check_plan, plan_job
from logprob_store.store.manifest import Input
from logprob_store.store.writing import open_run
from logprob_store.wiring import open_asker, open_transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from logprob_store.asking import Asker
    from logprob_store.job import Job
    from logprob_store.planning import Plan
    from logprob_store.request import Request
    from logprob_store.store.writing import RunWriter
    from logprob_store.transport import Transport

log = logging.getLogger(__name__)

GRACE_S: Final = 5.0
"""Seconds that calls under way get to finish once the run is to stop."""

_REPORT_EVERY_S: Final = 0.25
_ASK_ANEW: Final = frozenset({"malformed_answer", "no_logprobs", "error_body"})
"""Failures whose bad answer lies in the cache: asking again must not take it from there."""


@dataclass(slots=True)
class Progress:
    """How far a session is; calls are prompts times samples."""

    total: int = 0
    settled: int = 0
    calls: int = 0
    from_cache: int = 0
    from_fixtures: int = 0
    failed: int = 0
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a session did and how the run stands.

    `state` is `finished`, `interrupted` or `stopped`; `reason` says why it stopped. `calls` counts calls made in
    this session, `already` the calls that had an outcome before it, `failures` the prompts still open.
    """

    run: str
    store: Path
    state: str
    reason: str | None
    total: int
    already: int
    calls: int
    from_cache: int
    from_fixtures: int
    failures: int
    completions: int
    tokens: int
    seconds: float


def run_job(
    job: Job,
    *,
    run: str | None = None,
    limit: int | None = None,
    api_key: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> RunSummary:
    """Run a job to its end, or go on with a run that was begun.

    Ctrl-C or SIGTERM ends it early: calls under way get a few seconds, all answers are committed, and the summary
    says `interrupted`. A second one ends it at once, with KeyboardInterrupt.

    Args:
        job: from `load_job`.
        run: the run's name, `<job>-<date>` when None; the same name goes on with the same run.
        limit: only the first so many prompts.
        api_key: the value of the variable that `job.key_variable` names.
        on_progress: called a few times a second.

    Raises:
        InputError: the job, its prompts, its key, its fixtures or the store are wrong; nothing was asked.

    Example:
        >>> import logprob_store as ls
        >>> summary = ls.run_job(ls.load_job("jobs/demo.toml"))  # doctest: +SKIP
        >>> summary.state  # doctest: +SKIP
        'finished'
    """

    async def session() -> RunSummary:
        stop = asyncio.Event()
        if threading.current_thread() is threading.main_thread():
            _stop_on_signals(stop)
        return await run_job_async(job, run=run, limit=limit, api_key=api_key, on_progress=on_progress, stop=stop)

    try:
        return asyncio.run(session())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _stop_on_signals(stop: asyncio.Event) -> None:
    """The first Ctrl-C or SIGTERM stops in order, the second at once."""
    loop, this = asyncio.get_running_loop(), asyncio.current_task()

    def interrupt() -> None:
        if stop.is_set() and this is not None:
            this.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)


async def run_job_async(
    job: Job,
    *,
    run: str | None = None,
    limit: int | None = None,
    api_key: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stop: asyncio.Event | None = None,
) -> RunSummary:
    """Do what `run_job` does, inside a running event loop.

    Args:
        job: from `load_job`.
        run: the run's name.
        limit: only the first so many prompts.
        api_key: for the live transport.
        on_progress: called a few times a second.
        stop: set it to interrupt the run: what is under way gets a few seconds to finish, then all is committed.
    """
    started = asyncio.get_running_loop().time()
    plan = plan_job(job, limit=limit)
    # The transport first: without a key or fixtures there is to be no empty run in the store.
    async with open_transport(job, api_key=api_key) as transport:
        with open_run(
            job.resolve(job.store.path),
            default_run_name(job) if run is None else run,
            job_name=job.name,
            job=job.identity(),
            inputs=[Input(item.name, item.rows, item.size, item.digest) for item in plan.inputs],
            samples=job.model.samples,
        ) as writer:
            session = _Session(plan, writer, stop or asyncio.Event(), on_progress)
            await session.pump(transport)
            return session.summary(asyncio.get_running_loop().time() - started)


def default_run_name(job: Job) -> str:
    """`<job>-<date>`: a night's run, the same when started again that day."""
    return f"{job.name}-{date.today().isoformat()}"  # noqa: DTZ011  the night the user lives in


class _Session:
    """One session of a run: what is under way, and the reason to stop if there is one."""

    def __init__(
        self,
        plan: Plan,
        writer: RunWriter,
        stop: asyncio.Event,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._plan = plan
        self._writer = writer
        self._stop = stop
        self._on_progress = on_progress
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped_by: StopRunError | None = None
        self._broken: BaseException | None = None
        self._reached_end = False
        self._again = dict(writer.open_failures)
        self._already = min(len(writer.settled) - len(self._again), plan.call_count)
        self.progress = Progress(total=plan.call_count, settled=self._already)
        self._buffer = PartBuffer(writer, self.progress, part_bytes=plan.job.store.part_bytes)

    async def pump(self, transport: Transport) -> None:
        """Ask everything that has no outcome yet, until done or told to stop; commit what there is."""
        writer, plan = self._writer, self._plan
        chunks = self._chunks()
        reporter = asyncio.create_task(self._report())
        try:
            if chunks is not None:
                await asyncio.to_thread(check_plan, plan)
                async with open_asker(plan.job, transport, run=writer.manifest.run_id) as asker:
                    await self._ask_all(chunks, asker)
                    self._count_calls(asker)
            self._reached_end = True
        except StopRunError as error:
            self._stopped_by = error
        finally:
            reporter.cancel()
            await self._buffer.flush()
            self._buffer.close()
            await asyncio.to_thread(writer.finish, self._state())
        if self._broken is not None:
            raise self._broken
        if self._on_progress is not None:
            self._on_progress(self.progress)

    def _chunks(self) -> Iterator[Chunk] | None:
        """What is left to do, or None when that is known without reading a prompt."""
        writer, plan = self._writer, self._plan
        missing = writer.settled.first_missing()
        first = min([missing, *(call for call in self._again if call < plan.call_count)])
        read = writer.manifest.prompts_read
        skip = min(first // plan.job.model.samples, read)
        if skip >= plan.prompt_count:
            return None
        return plan.chunks(settled=writer.settled, again=self._again, skip=skip, prompts_read=read)

    async def _ask_all(self, chunks: Iterator[Chunk], asker: Asker) -> None:
        # Sleeping retries hold no slot, so more tasks than slots keep the server busy; this bounds their number.
        room = asyncio.Semaphore(2 * self._plan.job.limits.concurrency)
        guard = asyncio.create_task(self._cancel_when_stopped(asker))
        try:
            while not self._stop.is_set():
                chunk = await asyncio.to_thread(next, chunks, None)
                if chunk is None:
                    break
                await self._ask_chunk(chunk, asker, room)
            if self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            guard.cancel()

    async def _ask_chunk(self, chunk: Chunk, asker: Asker, room: asyncio.Semaphore) -> None:
        self._buffer.add_prompts(chunk)
        for bad in chunk.bad:
            await self._buffer.add_failure(bad, _failure_of(bad))
        found = await asker.look_up([request for request in chunk.requests if not self._ask_anew(request)])
        for request in chunk.requests:
            if self._stop.is_set():
                return
            if request.key in found and not self._ask_anew(request):
                await self._buffer.add_answer(found[request.key])
                continue
            await room.acquire()
            if self._stop.is_set():
                room.release()
                return
            task = asyncio.create_task(self._ask(request, asker))
            self._tasks.add(task)
            self.progress.in_flight = len(self._tasks)
            task.add_done_callback(lambda task: self._done(task, room))

    def _ask_anew(self, request: Request) -> bool:
        call = request.prompt_index * self._plan.job.model.samples + request.sample_index
        return self._again.get(call) in _ASK_ANEW

    def _done(self, task: asyncio.Task[None], room: asyncio.Semaphore) -> None:
        self._tasks.discard(task)
        self.progress.in_flight = len(self._tasks)
        room.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            # A full disk, a broken cache, a bug: keep what there is, then say so.
            self._broken = self._broken or error
            self._stop.set()

    async def _ask(self, request: Request, asker: Asker) -> None:
        started = datetime.now(UTC)
        try:
            answer = await asker.ask(request, anew=self._ask_anew(request))
        except StopRunError as error:
            if self._stopped_by is None:
                log.warning("stopping: %s", error)
            self._stopped_by = self._stopped_by or error
            self._stop.set()
        except CallError as error:
            log.warning("prompt %r: %s", request.prompt_id, error)
            await self._buffer.add_failure(request, error, first_at=started)
        except asyncio.CancelledError:
            if request.key in asker.lost:
                lost = CallError(
                    "the run was stopped while the server was answering",
                    error_type="interrupted",
                    maybe_billed=True,
                )
                self._buffer.add_failure_now(request, lost, first_at=started)
            raise
        else:
            await self._buffer.add_answer(answer)
        self._count_calls(asker)

    async def _cancel_when_stopped(self, asker: Asker) -> None:
        """Once told to stop: no new calls, a few seconds for those at the server, then an end."""
        await self._stop.wait()
        for task in self._tasks - asker.busy:
            task.cancel()
        if under_way := self._tasks & asker.busy:
            log.info("stopping: %d calls under way get %.0f s to finish", len(under_way), GRACE_S)
            await asyncio.wait(under_way, timeout=GRACE_S)
        for task in self._tasks:
            task.cancel()

    def _count_calls(self, asker: Asker) -> None:
        # A replay asks nobody.
        self.progress.calls = asker.calls if self._plan.job.transport.kind == "live" else 0

    async def _report(self) -> None:
        while self._on_progress is not None:
            self._on_progress(self.progress)
            await asyncio.sleep(_REPORT_EVERY_S)

    def _state(self) -> str:
        if self._stopped_by is not None:
            return "stopped"
        return "finished" if self._reached_end and not self._stop.is_set() else "interrupted"

    def summary(self, seconds: float) -> RunSummary:
        """What this session did."""
        progress, manifest = self.progress, self._writer.manifest
        return RunSummary(
            run=manifest.run,
            store=self._writer.store,
            state=manifest.state,
            reason=None if self._stopped_by is None else str(self._stopped_by),
            total=progress.total,
            already=self._already,
            calls=progress.calls,
            from_cache=progress.from_cache,
            from_fixtures=progress.from_fixtures,
            failures=manifest.counts.failures,
            completions=manifest.counts.completions,
            tokens=manifest.counts.tokens,
            seconds=seconds,
        )


def _failure_of(bad: BadCall) -> CallError:
    error = CallError(str(bad.problem), error_type=bad.problem.error_type)
    error.attempts = 0
    return error
