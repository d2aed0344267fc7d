"""Lookups ahead of the session: in order, bounded, errors in their turn, and no thread left after closing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from builders import answer_to, completions_request

from logprob_store.cache.answers import AnswerCache
from logprob_store.errors import CacheError, PromptsError
from logprob_store.run.lookahead import (
    BYTES_PER_LOOKUP,
    FIRST_LOOKUP,
    LOOKUPS_AHEAD,
    REQUESTS_PER_LOOKUP,
    LookedUp,
    look_up_ahead,
)
from logprob_store.run.plan import Chunk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from logprob_store.cache.answers import CachedAnswer
    from logprob_store.request import Request


@pytest.fixture
def _lookups_of_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logprob_store.run.lookahead.FIRST_LOOKUP", REQUESTS_PER_LOOKUP)


def _chunk(first: int, count: int) -> Chunk:
    requests = [completions_request(str(index), prompt_index=index) for index in range(first, first + count)]
    return Chunk(pa.table({"prompt_index": range(first, first + count)}), first + count, requests)


async def _nothing(_requests: Sequence[Request]) -> Mapping[str, CachedAnswer]:
    return {}


def _prompts(some: Sequence[LookedUp]) -> list[int]:
    return [request.prompt_index for each in some for request in each.requests]


@pytest.mark.usefixtures("_lookups_of_one_size")
def test_all_come_in_order_with_what_is_kept(tmp_path: Path) -> None:
    """Each chunk begins once, before its requests; each request is beside its own answer."""
    chunks = [_chunk(0, 3 * REQUESTS_PER_LOOKUP + 1), _chunk(200, 1), _chunk(300, 0), _chunk(400, REQUESTS_PER_LOOKUP)]
    kept = [request for chunk in chunks for request in chunk.requests if request.prompt_index % 3]

    async def all_of() -> list[LookedUp]:
        with AnswerCache(tmp_path) as cache:
            cache.put_many([answer_to(request, str(request.prompt_index).encode()) for request in kept])

            async def look_up(requests: Sequence[Request]) -> Mapping[str, CachedAnswer]:
                return cache.get_many(request.key for request in requests)

            return [some async for some in look_up_ahead(iter(chunks), look_up)]

    found = asyncio.run(all_of())

    assert [some.chunk for some in found] == [chunks[0], None, None, None, *chunks[1:]]
    assert [len(some.requests) for some in found] == [*[REQUESTS_PER_LOOKUP] * 3, 1, 1, 0, REQUESTS_PER_LOOKUP]
    assert _prompts(found) == [request.prompt_index for chunk in chunks for request in chunk.requests]
    bodies = [
        some.cached[request.key].body for some in found for request in some.requests if request.key in some.cached
    ]
    assert bodies == [str(request.prompt_index).encode() for request in kept]


@pytest.mark.usefixtures("_lookups_of_one_size")
def test_a_bounded_number_of_lookups_is_ahead() -> None:
    """The next lookups are under way while one is used, across chunks, and never more than LOOKUPS_AHEAD."""
    read: list[int] = []
    looked_up: list[int] = []

    def chunks() -> Iterator[Chunk]:
        for number in range(10):
            read.append(number)
            yield _chunk(1000 * number, 2 * REQUESTS_PER_LOOKUP)

    async def look_up(requests: Sequence[Request]) -> Mapping[str, CachedAnswer]:
        looked_up.append(requests[0].prompt_index)
        return {}

    async def some() -> list[tuple[list[int], list[int]]]:
        seen = []
        async with contextlib.aclosing(look_up_ahead(chunks(), look_up)) as lookups:
            async for some in lookups:
                await asyncio.sleep(0.05)  # as one does who decodes
                seen.append((_prompts([some])[:1], list(looked_up)))
                if len(seen) == 8:
                    break
        return seen

    seen = asyncio.run(some())

    starts = [1000 * number + first for number in range(10) for first in (0, REQUESTS_PER_LOOKUP)]
    assert [first for first, _ in seen] == [[start] for start in starts[:8]]
    assert all(done == starts[: len(done)] for _, done in seen)
    ahead = [len(done) - taken for taken, (_, done) in enumerate(seen, start=1)]
    assert max(ahead) <= LOOKUPS_AHEAD
    assert min(ahead) >= 1
    assert len(read) <= (len(looked_up) + 1) // 2 + 1


def test_an_error_of_the_prompts_comes_after_all_before_it() -> None:
    """The prompts before the cut of a truncated file are all yielded."""

    def chunks() -> Iterator[Chunk]:
        yield _chunk(0, 5 * REQUESTS_PER_LOOKUP)
        yield _chunk(1000, 2)
        raise PromptsError("p.parquet is cut off")

    found: list[LookedUp] = []

    async def all_of() -> None:
        async for some in look_up_ahead(chunks(), _nothing):
            found.append(some)  # noqa: PERF401  those before the error are wanted

    with pytest.raises(PromptsError, match="cut off"):
        asyncio.run(all_of())

    assert _prompts(found) == [*range(5 * REQUESTS_PER_LOOKUP), 1000, 1001]


@pytest.mark.usefixtures("_lookups_of_one_size")
def test_an_error_of_the_cache_comes_in_its_turn_and_once(caplog: pytest.LogCaptureFixture) -> None:
    """Earlier requests are yielded first; errors of later lookups are neither raised nor logged."""

    async def look_up(requests: Sequence[Request]) -> Mapping[str, CachedAnswer]:
        if requests[0].prompt_index >= 2 * REQUESTS_PER_LOOKUP:
            raise CacheError("unreadable")
        return {}

    found: list[LookedUp] = []

    async def all_of() -> None:
        async with contextlib.aclosing(look_up_ahead(iter([_chunk(0, 6 * REQUESTS_PER_LOOKUP)]), look_up)) as lookups:
            async for some in lookups:
                found.append(some)  # noqa: PERF401  those before the error are wanted

    with pytest.raises(CacheError, match="unreadable"):
        asyncio.run(all_of())

    gc.collect()  # a task whose error nobody has seen says so when it goes

    assert _prompts(found) == [*range(2 * REQUESTS_PER_LOOKUP)]
    assert not caplog.records


def test_once_closed_nothing_is_read() -> None:
    """Closing waits for the thread that reads prompts, so that its files may be removed."""
    reads: list[str] = []

    def chunks() -> Iterator[Chunk]:
        yield _chunk(0, 2)
        reads.append("begun")
        time.sleep(0.2)
        reads.append("done")
        yield _chunk(2, 2)
        reads.append("a third")

    async def first() -> list[LookedUp]:
        async with contextlib.aclosing(look_up_ahead(chunks(), _nothing)) as lookups:
            found = [await anext(lookups)]
        reads.append("closed")
        return found

    assert _prompts(asyncio.run(first())) == [0, 1]
    assert reads == ["begun", "done", "closed"]


@pytest.mark.parametrize(
    ("answer_bytes", "most"), [(0, REQUESTS_PER_LOOKUP), (BYTES_PER_LOOKUP // 8, 8), (2 * BYTES_PER_LOOKUP, 1)]
)
def test_the_answers_of_a_lookup_are_bounded_by_bytes(tmp_path: Path, answer_bytes: int, most: int) -> None:
    """After a few lookups they have as many requests as make BYTES_PER_LOOKUP, and one at least."""
    body = bytes(answer_bytes)

    async def sizes() -> list[int]:
        with AnswerCache(tmp_path) as cache:
            cache.put_many([answer_to(completions_request("0"), body)])
            (cached,) = cache.get_many([completions_request("0").key]).values()

        async def look_up(requests: Sequence[Request]) -> Mapping[str, CachedAnswer]:
            return {request.key: cached for request in requests}

        return [len(some.requests) async for some in look_up_ahead(iter([_chunk(0, 300)]), look_up)]

    found = asyncio.run(sizes())

    assert sum(found) == 300
    assert max(found[8:-1]) == most
    assert found[0] == FIRST_LOOKUP
