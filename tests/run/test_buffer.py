"""The buffer of outcomes: parts in order, bounded, and whole when tasks are cancelled or a part fails."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from builders import answer_to, completions_request, open_writer

from logprob_store.errors import CallError
from logprob_store.run.buffer import PartBuffer, Progress
from logprob_store.run.parts import Committer, decode_part
from logprob_store.run.plan import BadCall, PromptError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from logprob_store.decode.decoder import Decoder
    from logprob_store.run.parts import DecodedPart, PartContents


def failing(number: int) -> tuple[BadCall, CallError]:
    """An outcome without a call: a prompt that cannot be asked."""
    return BadCall(number, str(number), 0, PromptError("bad")), CallError("bad", error_type="bad_prompt")


async def fill(tmp_path: Path, count: int, **steps: Any) -> tuple[PartBuffer, list[asyncio.Task[None]]]:
    """A buffer that is full after each outcome, and the tasks that wait for it; `steps` are the committer's."""
    writer = open_writer(tmp_path)
    buffer = PartBuffer(Committer(writer, **steps), Progress(), part_bytes=1)
    tasks = [asyncio.create_task(buffer.add_failure(*failing(number))) for number in range(count)]
    await asyncio.sleep(0.02)
    return buffer, tasks


def test_a_cancelled_task_takes_nothing_along(tmp_path: Path) -> None:
    """A task that waits for a part may be cancelled; this part and the later ones are written."""
    committed: list[int] = []

    def slowly(_: Any, contents: PartContents, *__: Any) -> None:
        time.sleep(0.05)
        committed.extend(row["prompt_index"] for row in contents.failures)

    async def session() -> None:
        buffer, tasks = await fill(tmp_path, 5, write=slowly)
        tasks[0].cancel()
        await asyncio.sleep(0.01)
        more = asyncio.create_task(buffer.add_failure(*failing(5)))
        await asyncio.sleep(0.01)
        for task in [*tasks, more]:
            task.cancel()
        await asyncio.gather(*tasks, more, return_exceptions=True)
        await buffer.flush()
        buffer.close()

    asyncio.run(session())

    assert sorted(committed) == [0, 1, 2, 3, 4, 5]


def test_an_error_without_a_listener_is_raised_at_the_end(tmp_path: Path) -> None:
    """If all tasks that waited are cancelled, the last flush raises the error of the part."""

    def broken(*_: Any) -> None:
        time.sleep(0.05)
        raise OSError("disk full")

    async def session() -> None:
        buffer, tasks = await fill(tmp_path, 1, write=broken)
        tasks[0].cancel()
        try:
            await buffer.flush()
        finally:
            buffer.close()

    with pytest.raises(OSError, match="disk full"):
        asyncio.run(session())


def test_after_a_part_that_could_not_be_written_there_is_none(tmp_path: Path) -> None:
    """A later manifest would say that all earlier prompts have rows, and those of the failed part have none."""
    tried: list[int] = []

    def broken_once(_: Any, contents: PartContents, *__: Any) -> None:
        time.sleep(0.05)
        tried.extend(row["prompt_index"] for row in contents.failures)
        raise OSError("disk full")

    async def session() -> None:
        buffer, _ = await fill(tmp_path, 1, write=broken_once)
        try:
            await buffer.add_failure(*failing(1))
            await buffer.add_failure(*failing(2))
            await buffer.flush()
        finally:
            buffer.close()

    with pytest.raises(OSError, match="disk full"):
        asyncio.run(session())

    assert tried == [0]


def test_a_part_is_decoded_while_the_one_before_is_written(tmp_path: Path) -> None:
    """At most two parts are under way, and they are written in order."""
    decoded: list[int] = []
    seen: list[tuple[int, int]] = []

    def decode(contents: PartContents, decoder: Decoder, job: Mapping[str, Any]) -> DecodedPart:
        decoded.append(contents.failures[0]["prompt_index"])
        return decode_part(contents, decoder, job)

    def slowly(_: Any, contents: PartContents, *__: Any) -> None:
        time.sleep(0.05)
        seen.append((contents.failures[0]["prompt_index"], len(decoded)))

    async def session() -> None:
        buffer, _ = await fill(tmp_path, 1, decode=decode, write=slowly)
        for number in range(1, 5):
            await buffer.add_failure(*failing(number))
        await buffer.flush()
        buffer.close()

    asyncio.run(session())

    assert seen == [(0, 2), (1, 3), (2, 4), (3, 5), (4, 5)]


@pytest.mark.parametrize("long", ["prompt", "answer"])
def test_a_part_is_full_by_the_bytes_of_prompts_and_answers(tmp_path: Path, long: str) -> None:
    """An answer holds the text of its prompt twice: in a part of 1 MB are five prompts of 100 KB, or ten answers."""
    text = "x" * 100_000
    sizes: list[int] = []

    def note(_: Any, contents: PartContents, *__: Any) -> None:
        sizes.append(len(contents.answers))

    async def session() -> None:
        writer = open_writer(tmp_path)
        buffer = PartBuffer(Committer(writer, write=note), Progress(), part_bytes=1_000_000)
        for number in range(60):
            request = completions_request(text if long == "prompt" else "", prompt_index=number)
            await buffer.add_answer(answer_to(request, text.encode() if long == "answer" else b"{}"))
        await buffer.flush()
        buffer.close()

    asyncio.run(session())

    assert sum(sizes) == 60
    assert max(sizes) <= (5 if long == "prompt" else 10)
