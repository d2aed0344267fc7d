"""Decodes many answers to the three tables: in parts, on several threads, each part as fast as its answers allow.

A part's bodies are read first. Regular logprobs go through the compiled scanner (`bulk`), all others are read token by
token (`token_by_token`). Leaves out the wire formats (`formats`), and all I/O.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, Self

import pyarrow as pa

from logprob_store.decode.bulk.regular_chat import CutBodies, read_regular
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
    from collections.abc import Callable, Iterator, Sequence

    from logprob_store.decode.bulk.scanner import Room
    from logprob_store.request import Answer

_P = ParamSpec("_P")

PART_BYTES: Final = 4 << 20
"""Bytes of answers that one thread decodes at a time: enough for columns to pay, few enough to share among threads."""

SCANNER_MIN_BYTES: Final = 1 << 20
"""With fewer bytes, loading the compiled scanner takes longer than reading token by token."""

_LOADED_SCANNER_SHIFT: Final = 5
"""A scanner that is loaded pays from `SCANNER_MIN_BYTES >> 5` bytes on."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The tables of many answers, in the row order of `schema`, and the answers that failed.

    Args:
        completions: a table with the schema of `logprob_store.schema.COMPLETIONS`.
        tokens: the same of `TOKENS`.
        alternatives: the same of `ALTERNATIVES`.
        failures: the index of each answer that failed, and why, sorted by index. It has no rows in any table.
        not_scanned: the index of the answer of each choice whose logprobs the compiled scanner did not read.
    """

    completions: pa.Table
    tokens: pa.Table
    alternatives: pa.Table
    failures: list[tuple[int, DecodeError]]
    not_scanned: list[int]


class Decoder:
    """Decodes batches of answers one after the other; keeps its threads and the scanner's memory between them.

    Args:
        threads: how many decode at a time. With one, everything runs in the caller's thread.
        part_bytes: bytes of answers that one thread decodes at a time.
        scanner_min_bytes: with fewer bytes in a part the compiled scanner is not loaded; a loaded one is used from a
            32nd of that on.
    """

    def __init__(
        self, threads: int, *, part_bytes: int = PART_BYTES, scanner_min_bytes: int = SCANNER_MIN_BYTES
    ) -> None:
        self._threads = threads
        self._part_bytes = part_bytes
        self._scanner_min_bytes = scanner_min_bytes
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
        parts = list(_parts(answers, _in_order(answers), self._part_bytes))
        each = map if min(len(parts), self._threads) == 1 else self._pool.map
        decoded = list(each(lambda part: self._decode_part(answers, part), parts))
        return Decoded(
            pa.concat_tables([part.completions for part in decoded]),
            pa.concat_tables([part.tokens for part in decoded]),
            pa.concat_tables([part.alternatives for part in decoded]),
            sorted((failure for part in decoded for failure in part.failures), key=lambda failure: failure[0]),
            [index for part in decoded for index in part.not_scanned],
        )

    def _decode_part(self, answers: Sequence[Answer], indices: list[int]) -> Decoded:
        """Decode the answers with these indices, which are in the order of their rows."""
        failures: dict[int, DecodeError] = {}
        not_scanned: list[int] = []
        pieces = Pieces()
        tasks, wires = self._scan_part(answers, indices, failures, pieces)
        for task in tasks:
            if task.completion_id not in wires:
                not_scanned.append(task.answer_index)
                _try(failures, read_exactly, task, pieces, wires)
            if task.choice.layout is not None or task.choice.prompt_logprobs is not None:
                _try(failures, add_what_is_beside, task, pieces, wires)
        counts = pieces.token_counts()
        for task in tasks:
            if task.answer.request.asks_logprobs and (not counts[task.completion_id] or task.choice.lacks_logprobs):
                _try(failures, check_empty, task)
        tasks = [task for task in tasks if task.answer_index not in failures]
        kept = {task.completion_id for task in tasks}
        tokens, alternatives = pieces.tables(kept.__contains__)
        completions = completions_table(tasks, wires, tokens)
        return Decoded(completions, tokens, alternatives, list(failures.items()), not_scanned)

    def _scan_part(
        self, answers: Sequence[Answer], indices: list[int], failures: dict[int, DecodeError], pieces: Pieces
    ) -> tuple[list[DecodingTask], dict[int, str]]:
        """Read the bodies, and their logprobs with the compiled scanner: the choices, the `wire` text of those read."""
        with self._borrowed_room(sum(len(answers[index].body) for index in indices)) as room:
            if room is None:
                return _read_bodies(answers, indices, failures, None), {}
            cut = CutBodies(_known_to_be_json(answers, indices), room)
            tasks = _read_bodies(answers, indices, failures, cut)
            wires = cut.found.add_to(pieces)
            slices = {
                task.completion_id: task.choice.logprobs
                for task in tasks
                if isinstance(task.choice.logprobs, bytes)
                and task.choice.shape is None
                and task.completion_id not in wires
            }
            if self._scanner_pays(sum(map(len, slices.values()))):
                wires |= read_regular(slices, pieces, room)
            return tasks, wires

    @contextmanager
    def _borrowed_room(self, size: int) -> Iterator[Room | None]:
        """Memory for scanning this many bytes, which no other thread uses meanwhile; None if scanning does not pay."""
        if not self._scanner_pays(size):
            yield None
            return
        from logprob_store.decode.bulk.scanner import (
            Room,  # loads for 0.5 s, and compiles when it runs for the first time
        )

        try:
            room = self._rooms.get_nowait()
        except Empty:
            room = Room()
        try:
            yield room
        finally:
            self._rooms.put(room)

    def _scanner_pays(self, size: int) -> bool:
        """Whether the scanner reads this many bytes sooner than they are read token by token."""
        loaded = "logprob_store.decode.bulk.scanner" in sys.modules
        return size >= (self._scanner_min_bytes >> _LOADED_SCANNER_SHIFT if loaded else self._scanner_min_bytes)


def decode_answers(
    answers: Sequence[Answer], *, part_bytes: int = PART_BYTES, scanner_min_bytes: int = SCANNER_MIN_BYTES
) -> Decoded:
    """Decode raw bodies to tables; an answer that fails costs its neighbours nothing.

    `prompt_tokens` and `completion_tokens` are those of the whole response and stand on the row of each choice.

    Args:
        answers: complete 2xx answers in any order, at most one for each (prompt_index, sample_index). As many threads
            as Arrow has (`pyarrow.set_cpu_count`) share them.
        part_bytes: see `Decoder`.
        scanner_min_bytes: see `Decoder`.

    Raises:
        ValueError: two answers for one (prompt_index, sample_index), whose rows could not be told apart.
    """
    with Decoder(pa.cpu_count(), part_bytes=part_bytes, scanner_min_bytes=scanner_min_bytes) as decoder:
        return decoder.decode(answers)


def _in_order(answers: Sequence[Answer]) -> list[int]:
    """The indices of the answers, in the order of their rows."""
    keys = [(answer.request.prompt_index, answer.request.sample_index) for answer in answers]
    order = sorted(range(len(answers)), key=keys.__getitem__)
    for one, other in pairwise(order):
        if keys[one] == keys[other]:
            raise ValueError(f"answers {one} and {other} are both for prompt_index, sample_index {keys[one]}")
    return order


def _parts(answers: Sequence[Answer], order: list[int], part_bytes: int) -> Iterator[list[int]]:
    """Parts of `part_bytes` or one answer more; at least one part, which may be empty."""
    part: list[int] = []
    size = 0
    for index in order:
        part.append(index)
        size += len(answers[index].body)
        if size >= part_bytes:
            yield part
            part, size = [], 0
    if part or not order:
        yield part


def _known_to_be_json(answers: Sequence[Answer], indices: list[int]) -> dict[int, bytes]:
    """The bodies that were parsed before they went into the cache; others may be cut short."""
    sources = {"api", "cache"}
    bodies = {index: answers[index].body for index in indices if answers[index].source in sources}
    return {index: body for index, body in bodies.items() if is_utf8(body)}


def _read_bodies(
    answers: Sequence[Answer], indices: list[int], failures: dict[int, DecodeError], cut: CutBodies | None
) -> list[DecodingTask]:
    """The choices of the answers that can be read."""
    tasks: list[DecodingTask] = []
    for index in indices:
        answer = answers[index]
        request = answer.request
        try:
            values = cut.values(index) if cut is not None else {}
            reply = choices.read_cut(cut.body(index), values) if cut is not None and values else None
            if reply is None:
                values = {}
                reply = read_body(answer)
        except DecodeError as error:
            failures[index] = error
            continue
        except RecursionError:
            failures[index] = DecodeError("the answer is nested too deeply")
            continue
        for choice in reply.choices:
            key = completion_id(request.prompt_index, request.sample_index, choice.index)
            tasks.append(DecodingTask(index, answer, reply, choice, key))
            if cut is not None and values and isinstance(choice.logprobs, bytes):
                cut.found.belongs(values[choice.logprobs], key)
    return tasks


def _try(
    failures: dict[int, DecodeError],
    step: Callable[Concatenate[DecodingTask, _P], None],
    task: DecodingTask,
    *args: _P.args,
    **kwargs: _P.kwargs,
) -> None:
    """Take one step with a choice, unless its answer has failed; a step that fails fails the whole answer."""
    if task.answer_index in failures:
        return
    try:
        step(task, *args, **kwargs)
    except DecodeError as error:
        failures[task.answer_index] = error
    except RecursionError:
        failures[task.answer_index] = DecodeError(f"{task.choice.path}: nested too deeply")
