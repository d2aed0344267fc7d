"""`WhatIf`: asks the calls of a job one at a time, through its cache, retry and ceilings, in a thread of its own.

The thread has an event loop, in which the asker stays open: the ceilings of a run hold for all calls together. The
first call opens it: without a call, neither cache nor ledger is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Final, Self

from logprob_store.errors import CallError, DecodeError, InputError, JobError, PromptError
from logprob_store.one_prompt import completion_of
from logprob_store.request import OPENAI_BASE_URL, provider_of
from logprob_store.run.plan import request_of_job
from logprob_store.run.preflight import ModelCheck
from logprob_store.run.resources import headers_of, key_of_environment, open_asker_alone, open_transport
from logprob_store.spending.budget import Budget
from logprob_store.spending.request_tokens import most_output, worst_case
from logprob_store.what_if.continuing import refuse_job, without_echo

if TYPE_CHECKING:
    from typing import Any

    from logprob_store.job import Job
    from logprob_store.one_prompt import Completion
    from logprob_store.request import Answer, Request
    from logprob_store.run.asker import Asker

_MOST_ATTEMPTS: Final = 3
_RETRY_FOR_S: Final = 30.0
"""Somebody waits for the answer: a server that is away is not tried for as long as in a night."""
_END_WITHIN_S: Final = 10.0


class WhatIf:
    """Calls of a job, one at a time; a context manager.

    Args:
        job: names the server, the model, the cache and the ceilings.

    Raises:
        JobError: no answer can be gone on from by this job, or its key is not set.
    """

    def __init__(self, job: Job) -> None:
        refuse_job(job)
        key_of_environment(job)
        headers_of(job, {})
        attempts, retry_for_s = min(job.limits.attempts, _MOST_ATTEMPTS), min(job.retry_for_s, _RETRY_FOR_S)
        limits = {"attempts": attempts, "retry_for_s": retry_for_s, "concurrency": 1}
        self.job = job.model_copy(update={"limits": job.limits.model_copy(update=limits)})
        self.server = provider_of(job.model.base_url or OPENAI_BASE_URL)
        """The address that is asked, without what may be secret in it."""
        self._one_at_a_time = threading.Lock()
        self._opened = contextlib.AsyncExitStack()
        self._asker: Asker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="what-if", daemon=True)
        self._asking: asyncio.Task[Completion] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def most_usd(self, request: Request) -> float | None:
        """The most US dollars that a call can cost; None where there are no prices, or no most.

        >>> from logprob_store.job import make_job
        >>> from logprob_store.request import make_request
        >>> job = make_job("j", prompts={"path": "p", "prompt": "p"}, store={"path": "s"},
        ...     prices={"input_usd_per_million_tokens": 1, "output_usd_per_million_tokens": 10},
        ...     model={"name": "m", "endpoint": "completions", "base_url": "http://127.0.0.1:8080/v1"})
        >>> body = {"model": "m", "prompt": "Hi", "max_tokens": 5}
        >>> request = make_request(body, endpoint="completions", provider="p")
        >>> len(request.content), WhatIf(job).most_usd(request)  # 42 * 1e-6 + 5 * 10e-6
        (42, 9.2e-05)
        """
        prices = self.job.token_prices
        if prices is None or most_output(request.body, request.endpoint) is None:
            return None
        budget, most = Budget(prices=prices, sent_tier=self.job.transport.tier), worst_case(request)
        return budget.usd_of_call(request, most, most)[1]

    def asked_alike(self, prompt: Any, key: str | None, sample_index: int) -> bool:
        """Whether the job would ask this prompt by the call with this key: the same server, model and parameters."""
        provider = self.job.model.identity
        try:
            return request_of_job(self.job, prompt, provider=provider, sample_index=sample_index).key == key
        except PromptError:
            return False

    async def ask(self, request: Request) -> Completion:
        """The answer to a request, from the cache or by one call; to be awaited in any event loop.

        Raises:
            InputError: another call is under way, the model would refuse this one, or the cache cannot be used.
            CallError: no usable answer.
            StopRunError: a ceiling is reached, or no call can succeed.
            DecodeError: the answer is malformed, or has no logprobs.
            DiskError: the answer cannot be kept.
        """
        if not self._one_at_a_time.acquire(blocking=False):
            raise InputError("a call is under way: wait for its answer, then ask for the next one")
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._ask(request), self._running()))
        finally:
            self._one_at_a_time.release()

    def close(self) -> None:
        """End the call that is under way, which then counts as one whose answer was lost, and the thread."""
        if self._loop is None:
            return
        ended = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        with contextlib.suppress(TimeoutError):
            ended.result(_END_WITHIN_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_END_WITHIN_S)
        self._loop = None

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread.start()
        return self._loop

    def _run(self) -> None:
        if self._loop is not None:
            with contextlib.closing(self._loop) as loop:
                loop.run_forever()

    async def _ask(self, request: Request) -> Completion:
        self._asking = asyncio.current_task()
        asker = await self._open_asker()
        cached = await asker.look_up([request])
        if cached:  # also one that was paid for here: this time nothing is
            return _completion(cached[request.key].answer(request))
        if (refusal := ModelCheck(self.job).refusal(request)) is not None:
            raise JobError(refusal.sentence())
        try:
            return _completion(await asker.ask(request))
        except CallError as error:
            raise asker.refusal_of_all or error from None

    async def _open_asker(self) -> Asker:
        if self._asker is None:
            async with contextlib.AsyncExitStack() as opened:
                transport = await opened.enter_async_context(open_transport(self.job))
                # What fails here fails for one who looks on and can ask again: nothing is to be stopped for it.
                alone = open_asker_alone(self.job, transport, watch_first=False, waits_at_once=False)
                self._asker = await opened.enter_async_context(alone)
                self._opened = opened.pop_all()
        return self._asker

    async def _end(self) -> None:
        if self._asking is not None and not self._asking.done():
            self._asking.cancel()
            await asyncio.wait([self._asking])
        await self._opened.aclose()


def _completion(answer: Answer) -> Completion:
    try:
        return completion_of(answer)
    except DecodeError:
        ended = without_echo(answer)
        if ended is None:
            raise
        return completion_of(ended)
