"""The asker: each key is asked once, answers are durable before they are handed on, failures reach their callers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from builders import answer_to, completions_request

from logprob_store.cache.answers import AnswerCache
from logprob_store.errors import CacheError, CallError, StopRunError
from logprob_store.pacing.pacer import Pacer
from logprob_store.run.asker import Asker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from logprob_store.request import Answer, Request


def _request(text: str = "Hi", index: int = 0) -> Request:
    return completions_request(text, prompt_index=index)


class _Server:
    """A transport that answers once `open` is set, and lists the requests."""

    def __init__(self, *, run: str | None = None, fail: Callable[[int], Exception | None] | None = None) -> None:
        self.asked: list[Request] = []
        self.open = asyncio.Event()
        self._run = run
        self._fail = fail or (lambda _: None)

    async def __call__(self, request: Request) -> Answer:
        self.asked.append(request)
        number = len(self.asked)
        await self.open.wait()
        if (error := self._fail(number)) is not None:
            raise error
        return answer_to(request, f"answer {number}".encode(), run=self._run)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[AnswerCache]:
    """An empty cache."""
    with AnswerCache(tmp_path) as cache:
        yield cache


def _asker(server: _Server, cache: AnswerCache | None, **settings: Any) -> Asker:
    return Asker(server, pacer=Pacer(8), cache=cache, **{"attempts": 1, **settings})


def test_equal_requests_in_flight_are_sent_once(cache: AnswerCache) -> None:
    """Equal requests get one answer, each under its own prompt."""

    async def main() -> tuple[_Server, Sequence[Answer]]:
        server = _Server()
        async with _asker(server, cache) as asker:
            asks = asyncio.gather(*(asker.ask(_request(index=index)) for index in range(3)))
            await asyncio.sleep(0)
            server.open.set()
            return server, await asks

    server, answers = asyncio.run(main())

    assert len(server.asked) == 1
    assert [answer.request.prompt_index for answer in answers] == [0, 1, 2]
    assert {answer.body for answer in answers} == {b"answer 1"}


def test_an_equal_request_later_comes_from_the_cache(cache: AnswerCache) -> None:
    """An equal request that was looked up before the answer was kept is not sent either."""

    async def main() -> tuple[_Server, Answer, Answer]:
        server = _Server()
        server.open.set()
        async with _asker(server, cache) as asker:
            assert await asker.look_up([_request(), _request(index=1)]) == {}
            one = await asker.ask(_request())
            other = await asker.ask(_request(index=1))
            return server, one, other

    server, one, other = asyncio.run(main())

    assert len(server.asked) == 1
    assert (one.source, other.source) == ("api", "cache")
    assert (one.body, other.body, other.request.prompt_index) == (b"answer 1", b"answer 1", 1)


def test_without_a_cache_each_is_asked(cache: AnswerCache) -> None:
    """Mode `off` means that every prompt gets an answer of its own."""
    del cache

    async def main() -> list[bytes]:
        server = _Server()
        server.open.set()
        async with _asker(server, None) as asker:
            assert await asker.look_up([_request()]) == {}
            answers = await asyncio.gather(asker.ask(_request()), asker.ask(_request(index=1)))
            return [answer.body for answer in answers]

    assert asyncio.run(main()) == [b"answer 1", b"answer 2"]


def test_an_answer_is_durable_before_it_is_handed_on(cache: AnswerCache) -> None:
    """When `ask` returns the answer is already in the cache, byte for byte."""

    async def main() -> bytes | None:
        server = _Server()
        server.open.set()
        async with _asker(server, cache) as asker:
            await asker.ask(_request())
            found = await asyncio.to_thread(cache.get, _request().key)
            await asyncio.to_thread(cache.close)
            return None if found is None else found.body

    assert asyncio.run(main()) == b"answer 1"


def test_looking_up_gives_what_was_paid_for(cache: AnswerCache) -> None:
    """Equal requests in the cache are looked up once and get the answer under their own prompt, others get nothing."""
    cache.put_many([answer_to(_request(), b"kept")])
    twins = [_request(index=7), _request(index=8)]

    async def main() -> list[Answer]:
        async with _asker(_Server(), cache) as asker:
            found = await asker.look_up([*twins, _request("other")])
            assert list(found) == [twins[0].key]
            return [asker.answer_from_cache(found[request.key], request) for request in twins]

    answers = asyncio.run(main())

    assert [(answer.body, answer.source, answer.request) for answer in answers] == [
        (b"kept", "cache", twins[0]),
        (b"kept", "cache", twins[1]),
    ]


@pytest.mark.parametrize(("paid_by", "expected_calls"), [("other", 1), ("mine", 0)])
def test_refreshing_asks_again_what_others_paid_for(cache: AnswerCache, paid_by: str, expected_calls: int) -> None:
    """In mode `refresh` only the run's own answers count, so that a restart does not ask twice."""
    cache.put_many([answer_to(_request(), b"old", run=paid_by)])

    async def main() -> int:
        server = _Server(run="mine")
        server.open.set()
        async with _asker(server, cache, refresh=True, run="mine") as asker:
            if _request().key not in await asker.look_up([_request()]):
                await asker.ask(_request())
            return asker.calls

    assert asyncio.run(main()) == expected_calls
    found = cache.get(_request().key)
    assert found is not None
    assert found.body == (b"answer 1" if expected_calls else b"old")


def test_an_answer_in_place_of_a_damaged_one_is_marked(cache: AnswerCache, tmp_path: Path) -> None:
    """A damaged answer was paid for, and is asked for again."""

    async def main() -> list[Any]:
        server = _Server()
        server.open.set()
        async with _asker(server, cache) as asker:
            await asker.ask(_request())
        with contextlib.closing(sqlite3.connect(tmp_path / "cache.db")) as database, database:
            database.execute("UPDATE Cache SET value = x'00'")
        async with _asker(server, cache) as asker:
            answer = await asker.ask(_request())
            return [answer.body, answer.maybe_billed]

    assert asyncio.run(main()) == [b"answer 2", True]


@pytest.mark.parametrize(
    ("resumed", "expected"),
    [(False, [1, False]), (True, [1, True])],
    ids=["first session", "resumed"],
)
def test_a_fresh_answer_whose_place_was_taken_is_marked(
    cache: AnswerCache,
    resumed: bool,  # noqa: FBT001
    expected: list[Any],
) -> None:
    """Two runs that refresh overwrite each other's answers: one asked again after a restart may be paid for twice."""
    began = datetime.now(UTC)

    async def main() -> list[Any]:
        server = _Server()
        server.open.set()
        for run in ("mine", "other"):
            async with _asker(server, cache, refresh=True, run=run) as asker:
                await asker.ask(_request())
        since = began if resumed else None
        async with _asker(server, cache, refresh=True, run="mine", resumed_from=since) as asker:
            answer = await asker.ask(_request())
            return [asker.calls, answer.maybe_billed]

    assert asyncio.run(main()) == expected


def test_asking_anew_does_not_take_the_bad_answer_from_the_cache(cache: AnswerCache) -> None:
    """An answer that could not be decoded is asked again and replaced."""

    async def main() -> list[bytes]:
        server = _Server()
        server.open.set()
        async with _asker(server, cache) as asker:
            first = await asker.ask(_request())
            again = await asker.ask(_request(), anew=True)
            return [first.body, again.body]

    assert asyncio.run(main()) == [b"answer 1", b"answer 2"]
    found = cache.get(_request().key)
    assert found is not None
    assert found.body == b"answer 2"


def test_equal_prompts_are_asked_anew_once_and_marked(cache: AnswerCache) -> None:
    """The new answer is marked as possibly the second that is billed; an equal prompt takes it without a call."""

    async def main() -> list[tuple[bytes, bool]]:
        server = _Server()
        server.open.set()
        async with _asker(server, cache, run="r") as asker:
            answers = [await asker.ask(_request(), anew=anew) for anew in (False, True, True)]
            return [(answer.body, answer.maybe_billed) for answer in answers]

    assert asyncio.run(main()) == [(b"answer 1", False), (b"answer 2", True), (b"answer 2", True)]


def test_a_failure_is_shared(cache: AnswerCache) -> None:
    """Equal requests fail with the one call, and make none of their own."""
    failure = CallError("no", error_type="invalid_request", status=400)

    async def main() -> tuple[int, list[Any]]:
        server = _Server(fail=lambda _: failure)
        async with _asker(server, cache) as asker:
            asks = asyncio.gather(*(asker.ask(_request(index=i)) for i in range(3)), return_exceptions=True)
            await asyncio.sleep(0)
            server.open.set()
            return len(server.asked), await asks

    calls, outcomes = asyncio.run(main())

    assert calls == 1
    assert outcomes == [failure] * 3


def test_a_failure_is_not_remembered(cache: AnswerCache) -> None:
    """The next equal request is asked again."""

    async def main() -> bytes:
        server = _Server(fail=lambda n: CallError("no", error_type="connection") if n == 1 else None)
        server.open.set()
        async with _asker(server, cache) as asker:
            with pytest.raises(CallError):
                await asker.ask(_request())
            return (await asker.ask(_request())).body

    assert asyncio.run(main()) == b"answer 2"


def test_a_call_cancelled_at_the_server_is_lost(cache: AnswerCache) -> None:
    """It may be billed, so its key is lost; that of a call which waits for a slot is not."""

    async def main() -> set[str]:
        asker = Asker(_Server(), pacer=Pacer(1), cache=cache, attempts=1)
        async with asker:
            tasks = [asyncio.create_task(asker.ask(_request(text))) for text in ("sent", "waiting")]
            await asyncio.sleep(0.05)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert all(task.cancelled() for task in tasks)
            return asker.lost_keys

    assert asyncio.run(main()) == {_request("sent").key}


def test_a_cancelled_twin_does_not_take_the_other_s_call_away(cache: AnswerCache) -> None:
    """Cancelling a request that waits for an equal one does not end that one's call."""

    async def main() -> bytes:
        server = _Server()
        async with _asker(server, cache) as asker:
            first = asyncio.create_task(asker.ask(_request()))
            await asyncio.sleep(0)
            twin = asyncio.create_task(asker.ask(_request(index=1)))
            await asyncio.sleep(0)
            twin.cancel()
            await asyncio.wait([twin])
            server.open.set()
            return (await first).body

    assert asyncio.run(main()) == b"answer 1"


def test_when_the_first_is_called_off_its_twin_asks(cache: AnswerCache) -> None:
    """When the request that was sent is cancelled, an equal one makes the call."""

    async def main() -> tuple[int, bytes]:
        server = _Server()
        async with _asker(server, cache) as asker:
            first, twin = (asyncio.create_task(asker.ask(_request(index=index))) for index in range(2))
            await asyncio.sleep(0.05)
            first.cancel()
            await asyncio.wait([first])
            server.open.set()
            return len(server.asked), (await twin).body

    assert asyncio.run(main()) == (2, b"answer 2")


def test_all_of_equal_requests_can_be_called_off(cache: AnswerCache) -> None:
    """All end when they are cancelled, as when a run stops, and one call is lost."""

    async def main() -> tuple[int, list[bool]]:
        server = _Server()
        async with _asker(server, cache) as asker:
            tasks = [asyncio.create_task(asker.ask(_request(index=index))) for index in range(3)]
            await asyncio.sleep(0.05)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert asker.lost_keys == {_request().key}
            return len(server.asked), [task.cancelled() for task in tasks]

    assert asyncio.run(main()) == (1, [True] * 3)


def test_no_call_starts_after_a_stop(cache: AnswerCache) -> None:
    """The requests that wait get the same reason, without a call."""
    quota = StopRunError("no", reason="quota")

    async def main() -> tuple[int, list[Any]]:
        server = _Server(fail=lambda _: quota)
        server.open.set()
        async with Asker(server, pacer=Pacer(1), cache=cache) as asker:
            asks = [asker.ask(_request(str(number))) for number in range(5)]
            outcomes = await asyncio.gather(*asks, return_exceptions=True)
            return len(server.asked), outcomes

    assert asyncio.run(main()) == (1, [quota] * 5)


def test_a_cache_that_cannot_be_written_fails_every_waiting_request(
    cache: AnswerCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that cannot be written is an error for every request that waits for it."""

    def full(_: object) -> None:
        raise CacheError("no room")

    monkeypatch.setattr(cache, "put_many", full)

    async def main() -> list[Any]:
        server = _Server()
        server.open.set()
        async with _asker(server, cache) as asker:
            asks = [asker.ask(_request(text)) for text in ("a", "a", "b")]
            return await asyncio.gather(*asks, return_exceptions=True)

    assert [str(outcome) for outcome in asyncio.run(main())] == ["no room"] * 3


def test_any_other_error_of_the_cache_reaches_the_caller(cache: AnswerCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in writing is raised, and no request waits for ever."""

    def broken(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cache, "put_many", broken)

    async def main() -> None:
        server = _Server()
        server.open.set()
        async with _asker(server, cache) as asker:
            with pytest.raises(ZeroDivisionError):
                await asyncio.wait_for(asker.ask(_request()), 2)

    asyncio.run(main())


def test_many_answers_share_one_sync(cache: AnswerCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that come while a batch is written go into the next batch together."""
    batches: list[int] = []
    really = cache.put_many

    def counted(answers: Sequence[Answer]) -> None:
        batches.append(len(answers))
        really(answers)

    monkeypatch.setattr(cache, "put_many", counted)

    async def main() -> None:
        server = _Server()
        async with Asker(server, pacer=Pacer(100), cache=cache) as asker:
            asks = asyncio.gather(*(asker.ask(_request(str(number))) for number in range(50)))
            await asyncio.sleep(0.05)
            server.open.set()
            await asks

    asyncio.run(main())

    assert sum(batches) == 50
    assert len(batches) <= 5
    assert len(cache) == 50


def test_attempts_are_counted_on_the_answer(cache: AnswerCache) -> None:
    """The cached answer and the one handed on have the number of calls."""
    from logprob_store.errors import RetryableError

    def once(number: int) -> Exception | None:
        return RetryableError("no", error_type="rate_limit", retry_after_s=0.0) if number == 1 else None

    async def main() -> tuple[int, int]:
        server = _Server(fail=once)
        server.open.set()
        async with _asker(server, cache, attempts=3) as asker:
            return (await asker.ask(_request())).attempts, asker.calls

    assert asyncio.run(main()) == (2, 2)
    found = cache.get(_request().key)
    assert found is not None
    assert found.meta.attempts == 2
    assert dataclasses.replace(found.answer(_request())).attempts == 2
