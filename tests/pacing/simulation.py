"""An event loop with a virtual clock, and servers that run on it."""

from __future__ import annotations

import asyncio
import itertools
import random
import selectors
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from logprob_store.errors import CallError, RetryableError
from logprob_store.request import Answer, Request, make_request
from logprob_store.run.attempts import ask_until_answered
from logprob_store.usage import RateLimit, ServerReport

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from logprob_store.pacing.pacer import Pacer

_T = TypeVar("_T")


class _NoWaiting(selectors.SelectSelector):
    """A selector that advances the clock instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("nothing will ever happen again: everything waits for ever")
        self.now += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a virtual clock, on which waiting takes no time."""

    def __init__(self) -> None:
        self._waits = _NoWaiting()
        super().__init__(self._waits)

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._waits.now


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine on a virtual clock that starts at 0, with the same jitter every time."""
    random.seed(0)
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


def request(number: int = 0, **body: Any) -> Request:
    """A request with a prompt of its own."""
    return make_request({"model": "m", "prompt": str(number), **body}, endpoint="completions", provider="p")


class LimitedServer:
    """A transport that enforces limits over any minute of the loop's clock, and reports them truthfully.

    Args:
        requests_per_minute: requests above this are refused.
        tokens_per_minute: the same for the tokens that calls use.
        latency_s: seconds that an answer takes.
        used_tokens: tokens that a request uses.
        per_second: also refuse more than a sixtieth of the requests in any second.
        tells: whether answers report the limits.
    """

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        *,
        latency_s: float = 1.0,
        used_tokens: Callable[[Request], int] = lambda _: 10,
        per_second: bool = False,
        tells: bool = True,
    ) -> None:
        self.limits = (requests_per_minute, tokens_per_minute)
        self.arrivals: list[tuple[float, int]] = []
        self.refused = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self._latency_s = latency_s
        self._used_tokens = used_tokens
        self._per_second = per_second
        self._tells = tells
        self._minute: deque[tuple[float, int]] = deque()
        self._second: deque[float] = deque()
        self._sum = 0

    async def __call__(self, request: Request) -> Answer:
        """Answer after a while, or refuse at once."""
        loop = asyncio.get_running_loop()
        now, used = loop.time(), self._used_tokens(request)
        while self._minute and self._minute[0][0] <= now - 60:
            self._sum -= self._minute.popleft()[1]
        while self._second and self._second[0] <= now - 1:
            self._second.popleft()
        requests, tokens = self.limits
        fits = (requests is None or len(self._minute) < requests) and (tokens is None or self._sum + used <= tokens)
        if self._per_second and requests is not None:
            fits = fits and len(self._second) < max(1, requests / 60)
        self.arrivals.append((now, used))
        if not fits:
            self.refused += 1
            error = RetryableError("too many", error_type="rate_limit", status=429)
            error.report = self._report(now)
            await asyncio.sleep(self._latency_s / 10)
            raise error
        self._minute.append((now, used))
        self._second.append(now)
        self._sum += used
        report = self._report(now)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self._latency_s)
        finally:
            self.in_flight -= 1
        return Answer(request, 200, {}, b"{}", "api", report=report._replace(used_tokens=used))

    def _report(self, now: float) -> ServerReport:
        if not self._tells:
            return ServerReport()
        counts = (len(self._minute), self._sum)
        reset_s = self._minute[-1][0] + 60 - now if self._minute else 0.0
        levels = [
            None if limit is None else RateLimit(limit, max(0, limit - count), reset_s)
            for limit, count in zip(self.limits, counts, strict=True)
        ]
        return ServerReport(*levels)

    def most_in_a_minute(self, what: int = 0) -> float:
        """Requests (0) or tokens (1) in the busiest minute."""
        window: deque[tuple[float, int]] = deque()
        most = total = 0
        for at, used in self.arrivals:
            cost = used if what else 1
            window.append((at, cost))
            total += cost
            while window[0][0] <= at - 60:
                total -= window.popleft()[1]
            most = max(most, total)
        return most


class Fickle:
    """A transport in which `outcome` gives each call's error, or None for an answer after `latency_s`.

    `report` gives what the answer reports, by the number of its call.
    """

    def __init__(
        self,
        outcome: Callable[[Request, int, float], Exception | None],
        *,
        latency_s: float = 0.1,
        refusal_s: float = 0.0,
        report: Callable[[int], ServerReport | None] = lambda _: None,
    ) -> None:
        self.calls: list[tuple[float, Request]] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self._outcome = outcome
        self._latency_s = latency_s
        self._refusal_s = refusal_s
        self._report = report

    async def __call__(self, request: Request) -> Answer:
        """One call."""
        now = asyncio.get_running_loop().time()
        self.calls.append((now, request))
        number = len(self.calls)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            error = self._outcome(request, number, now)
            if error is not None:
                await asyncio.sleep(self._refusal_s)
                raise error
            await asyncio.sleep(self._latency_s)
            return Answer(request, 200, {}, b"{}", "api", report=self._report(number))
        finally:
            self.in_flight -= 1


async def ask_all(
    server: Callable[[Request], Coroutine[Any, Any, Answer]], pacer: Pacer, requests: list[Request], **settings: Any
) -> list[Answer | BaseException]:
    """Ask all requests at once; returns the outcomes in their order."""
    asks = (ask_until_answered(request, server, pacer=pacer, **settings) for request in requests)
    return await asyncio.gather(*asks, return_exceptions=True)


async def ask_for(
    server: Callable[[Request], Coroutine[Any, Any, Answer]], pacer: Pacer, *, seconds: float, at_once: int, **body: Any
) -> list[BaseException]:
    """Keep `at_once` prompts under way for `seconds`; returns the failures."""
    loop, numbers, failed = asyncio.get_running_loop(), itertools.count(), []

    async def work() -> None:
        while loop.time() < seconds:
            try:
                await ask_until_answered(request(next(numbers), **body), server, pacer=pacer)
            except CallError as error:
                failed.append(error)

    tasks = [asyncio.create_task(work()) for _ in range(at_once)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return failed
