"""Many answers to the three tables: reads each body, sends its `logprobs` the fast or the exact way, says what failed.

Leaves out every wire format (`registry` lists them), the exact way itself (`exact`), and all I/O.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Self

import pyarrow as pa

from logprob_store.decode.bulk.regular_chat import WORTH_IT, CutBodies, read_regular
from logprob_store.decode.completions_table import completions_table
from logprob_store.decode.decoding_task import DecodingTask
from logprob_store.decode.formats import choices
from logprob_store.decode.formats.body import is_utf8
from logprob_store.decode.formats.reader import read_body
from logprob_store.decode.segments import Pieces
from logprob_store.decode.token_by_token import add_what_is_beside, check_empty, read_exactly
from logprob_store.errors import DecodeError
from logprob_store.schema import completion_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from logprob_store.decode.bulk.scanner import Room
    from logprob_store.request import Answer

_PART_BYTES: Final = 4 << 20
"""Answers decoded by one thread in one go: enough for columns to be worth it, few enough for threads to share."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Rows of many answers, sorted as the contract says, and what was wrong with the others.

    The tables have the schemas of `logprob_store.schema`. A failure is the index of an answer and the error; a failed
    answer has no rows in any table.
    """

    completions: pa.Table
    tokens: pa.Table
    alternatives: pa.Table
    failures: list[tuple[int, DecodeError]]


class Decoder:
    """Decodes many answers one lot after the other, with threads and memory that it uses again.

    With one of its `threads` all is done in the caller's.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._rooms: SimpleQueue[Room] = SimpleQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def decode(self, answers: Sequence[Answer]) -> Decoded:
        """Decode as `decode_answers` does."""
        parts = list(_parts(answers, _in_order(answers)))
        each = map if min(len(parts), self._threads) == 1 else self._pool.map
        decoded = list(each(lambda part: _decode_part(answers, part, self._rooms), parts))
        return Decoded(
            pa.concat_tables([part.completions for part in decoded]),
            pa.concat_tables([part.tokens for part in decoded]),
            pa.concat_tables([part.alternatives for part in decoded]),
            sorted((failure for part in decoded for failure in part.failures), key=lambda failure: failure[0]),
        )


def decode_answers(answers: Sequence[Answer]) -> Decoded:
    """Decode raw bodies to tables; a bad one is a failure and costs its neighbours nothing.

    `prompt_tokens` and `completion_tokens` are the whole response's and stand on each of its choices' rows.

    Args:
        answers: complete 2xx answers, at most one for each (prompt_index, sample_index). Any order will do. They are
            shared among as many threads as Arrow has (`pyarrow.set_cpu_count`).

    Raises:
        ValueError: two answers for one (prompt_index, sample_index), whose rows could not be told apart.
    """
    with Decoder(pa.cpu_count()) as decoder:
        return decoder.decode(answers)


def _in_order(answers: Sequence[Answer]) -> list[int]:
    """The numbers of the answers, in the order of their rows."""
    keys = [(answer.request.prompt_index, answer.request.sample_index) for answer in answers]
    order = sorted(range(len(answers)), key=keys.__getitem__)
    for one, other in pairwise(order):
        if keys[one] == keys[other]:
            raise ValueError(f"answers {one} and {other} are both for prompt_index, sample_index {keys[one]}")
    return order


def _parts(answers: Sequence[Answer], order: list[int]) -> Iterator[list[int]]:
    """At least one part, each of `_PART_BYTES` or a bit more."""
    part: list[int] = []
    size = 0
    for number in order:
        part.append(number)
        size += len(answers[number].body)
        if size >= _PART_BYTES:
            yield part
            part, size = [], 0
    if part or not order:
        yield part


def _decode_part(answers: Sequence[Answer], numbers: list[int], rooms: SimpleQueue[Room]) -> Decoded:
    """Decode the answers with these numbers, which are in the order of their rows."""
    failures: dict[int, DecodeError] = {}
    pieces = Pieces()
    with _room(rooms, answers, numbers) as room:
        cut = None if room is None else CutBodies(_known_to_be_json(answers, numbers), room)
        tasks = _read_bodies(answers, numbers, failures, cut)
        wires = {} if cut is None else cut.found.add_to(pieces)
        slices = {
            task.completion_id: task.choice.logprobs
            for task in tasks
            if isinstance(task.choice.logprobs, bytes) and task.choice.shape is None and task.completion_id not in wires
        }
        if room is not None and _is_worth_it(sum(map(len, slices.values()))):
            wires |= read_regular(slices, pieces, room)
    for task in tasks:
        if task.completion_id not in wires:
            _try(read_exactly, task, pieces, wires, failures)
        if task.choice.layout is not None or task.choice.prompt_logprobs is not None:
            _try(add_what_is_beside, task, pieces, wires, failures)
    held = pieces.token_counts()
    for task in tasks:
        if task.answer.request.asks_logprobs and (not held[task.completion_id] or task.choice.lacks_logprobs):
            _try(check_empty, task, pieces, wires, failures)
    tasks = [task for task in tasks if task.answer_index not in failures]
    kept = {task.completion_id for task in tasks}
    tokens, alternatives = pieces.tables(kept.__contains__)
    return Decoded(completions_table(tasks, wires, tokens), tokens, alternatives, list(failures.items()))


@contextmanager
def _room(rooms: SimpleQueue[Room], answers: Sequence[Answer], numbers: list[int]) -> Iterator[Room | None]:
    """Room for scanning these answers, None if that is not worth it. Nobody else has it meanwhile."""
    if not _is_worth_it(sum(len(answers[number].body) for number in numbers)):
        yield None
        return
    from logprob_store.decode.bulk.scanner import Room  # half a second, and the first time ever some more to compile

    try:
        room = rooms.get_nowait()
    except Empty:
        room = Room()
    try:
        yield room
    finally:
        rooms.put(room)


def _is_worth_it(size: int) -> bool:
    """Whether the scanner reads so many bytes sooner; once it is loaded, it is worth it for less."""
    return size >= (WORTH_IT >> 5 if "logprob_store.decode.bulk.scanner" in sys.modules else WORTH_IT)


def _known_to_be_json(answers: Sequence[Answer], numbers: list[int]) -> dict[int, bytes]:
    """The bodies that were checked before they went into the cache; of the others nobody has seen the end."""
    sources = {"api", "cache"}
    bodies = {number: answers[number].body for number in numbers if answers[number].source in sources}
    return {number: body for number, body in bodies.items() if is_utf8(body)}


def _read_bodies(
    answers: Sequence[Answer], numbers: list[int], failures: dict[int, DecodeError], cut: CutBodies | None
) -> list[DecodingTask]:
    """The choices of the answers that can be read."""
    tasks: list[DecodingTask] = []
    for number in numbers:
        answer = answers[number]
        request = answer.request
        try:
            values = cut.values(number) if cut is not None else {}
            reply = choices.read_cut(cut.body(number), values) if cut is not None and values else None
            if reply is None:
                values = {}
                reply = read_body(answer)
        except DecodeError as error:
            failures[number] = error
            continue
        except RecursionError:
            failures[number] = DecodeError("the answer is nested too deeply")
            continue
        for choice in reply.choices:
            key = completion_id(request.prompt_index, request.sample_index, choice.index)
            tasks.append(DecodingTask(number, answer, reply, choice, key))
            if cut is not None and values and isinstance(choice.logprobs, bytes):
                cut.found.belongs(values[choice.logprobs], key)
    return tasks


def _try(
    step: Any, task: DecodingTask, pieces: Pieces, wires: dict[int, str], failures: dict[int, DecodeError]
) -> None:
    """Take one step with one choice; if it fails, its whole answer has failed."""
    if task.answer_index in failures:
        return
    try:
        step(task, pieces, wires)
    except DecodeError as error:
        failures[task.answer_index] = error
    except RecursionError:
        failures[task.answer_index] = DecodeError(f"{task.choice.path}: nested too deeply")
