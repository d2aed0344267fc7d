"""The decoder: raw bodies of many answers to the tables of completions, tokens, alternatives and decisions.

The answers are split into batches, which threads share. In each batch the compiled scanner (`bulk`) reads the regular
logprobs, and `token_by_token` all others; where it was not compiled, all. The wire formats are in `formats`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, Self

import pyarrow as pa

from logprob_store.decode.bulk.regular_chat import CutBodies, read_regular_logprobs
from logprob_store.decode.bulk.scan_loop import load_scan_loop
from logprob_store.decode.bulk.scanner import ScanBuffers
from logprob_store.decode.completions_table import completions_table
from logprob_store.decode.decision_rows import DecisionRows, read_decisions, refuse_undecided
from logprob_store.decode.decoding_task import DecodingTask
from logprob_store.decode.formats import choices
from logprob_store.decode.formats.reader import read_body
from logprob_store.decode.row_segments import DecodedRows
from logprob_store.decode.token_by_token import add_layout_and_prompt, read_token_by_token, refuse_missing_tokens
from logprob_store.errors import UNFORESEEN_FAULTS, DecodeError, describe_fault
from logprob_store.mended_json import is_utf8
from logprob_store.schema import completion_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from logprob_store.decode.formats.base import Reply
    from logprob_store.request import Answer

_P = ParamSpec("_P")

UNFORESEEN: Final = "the decoder did not foresee this answer"
"""In the message of a failure that is a bug of this package."""

BATCH_BYTES: Final = 4 << 20
"""Bytes of answers that one thread decodes at a time: enough for columns to pay, few enough to share among threads."""

SCANNER_MIN_BYTES: Final = 1 << 15
"""With fewer bytes, reading token by token is no slower than making columns."""

_FAULTS: Final = (pa.ArrowException, *UNFORESEEN_FAULTS)
"""What code raises that did not foresee an answer; see `errors`."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The tables of many answers, in the row order of `schema`, and the answers that failed.

    Args:
        completions: a table with the schema of `logprob_store.schema.COMPLETIONS`.
        tokens: the same of `TOKENS`.
        alternatives: the same of `ALTERNATIVES`.
        decisions: the same of `DECISIONS`.
        failures: the index of each answer that failed, and why, sorted by index. It has no rows in any table.
        not_scanned: the index of the answer of each choice whose logprobs the compiled scanner did not read.
    """

    completions: pa.Table
    tokens: pa.Table
    alternatives: pa.Table
    decisions: pa.Table
    failures: list[tuple[int, DecodeError]]
    not_scanned: list[int]


class Decoder:
    """Decodes batches of answers one after the other; keeps its threads and the scanner's memory between them.

    Args:
        threads: how many batches are decoded at a time. With one thread, everything runs in the caller's.
        batch_bytes: bytes of answers that one thread decodes at a time.
        scanner_min_bytes: with fewer bytes in a batch the compiled scanner is not used.
    """

    def __init__(
        self, threads: int, *, batch_bytes: int = BATCH_BYTES, scanner_min_bytes: int = SCANNER_MIN_BYTES
    ) -> None:
        self._threads = threads
        self._batch_bytes = batch_bytes
        self._scanner_min_bytes = scanner_min_bytes
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._idle_buffers: SimpleQueue[ScanBuffers] = SimpleQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def decode(self, answers: Sequence[Answer]) -> Decoded:
        """Decode as `decode_answers` does."""
        batches = list(_split(answers, _row_order(answers), self._batch_bytes))
        each = map if min(len(batches), self._threads) == 1 else self._pool.map
        return _joined(list(each(lambda batch: self._decode_batch(answers, batch), batches)))

    def _decode_batch(self, answers: Sequence[Answer], indices: list[int]) -> Decoded:
        """Decode the answers with these indices, which are in the order of their rows.

        If the tables of all cannot be made, they are made in halves, until the answer is alone that no table can hold.
        """
        try:
            return self._decode_together(answers, indices)
        except _FAULTS as error:
            if len(indices) == 1:
                return replace(self._decode_together(answers, []), failures=[(indices[0], _unforeseen(error))])
        middle = len(indices) // 2
        return _joined([self._decode_batch(answers, half) for half in (indices[:middle], indices[middle:])])

    def _decode_together(self, answers: Sequence[Answer], indices: list[int]) -> Decoded:
        """Decode answers into the same tables; raises one of `_FAULTS` if one of them makes that impossible."""
        failures: dict[int, DecodeError] = {}
        not_scanned: list[int] = []
        rows, decisions = DecodedRows(), DecisionRows()
        tasks, wire_texts = self._scan_part(answers, indices, failures, rows)
        for task in tasks:
            if task.choice.decisions is not None:
                _attempt(failures, read_decisions, task, decisions, wire_texts)
                continue
            if task.completion_id not in wire_texts:
                not_scanned.append(task.answer_index)
                _attempt(failures, read_token_by_token, task, rows, wire_texts)
            if task.choice.layout is not None or task.choice.prompt_logprobs is not None:
                _attempt(failures, add_layout_and_prompt, task, rows, wire_texts)
        counts = rows.token_counts()
        for task in tasks:
            request = task.answer.request
            if task.choice.decisions is not None:
                continue
            if request.asks_decisions:
                _attempt(failures, refuse_undecided, task)
            # A choice that lacks logprobs may have rows all the same, those of vLLM's `prompt_logprobs`. Nobody knows
            # whether more was asked for, if the request is unknown.
            has_tokens = counts[task.completion_id] and (
                task.choice.prompt_logprobs is None or not task.choice.lacks_logprobs or request.is_unknown
            )
            if request.asks_logprobs and not has_tokens:
                _attempt(failures, refuse_missing_tokens, task)
        tasks = [task for task in tasks if task.answer_index not in failures]
        kept = {task.completion_id for task in tasks}
        tokens, alternatives = rows.tables(kept.__contains__)
        completions = completions_table(tasks, wire_texts, tokens)
        decided = decisions.table(kept.__contains__)
        return Decoded(completions, tokens, alternatives, decided, list(failures.items()), not_scanned)

    def _scan_part(
        self, answers: Sequence[Answer], indices: list[int], failures: dict[int, DecodeError], rows: DecodedRows
    ) -> tuple[list[DecodingTask], dict[int, str]]:
        """Read the bodies, and what logprobs the scanner takes: all choices, and the `wire` texts of those scanned."""
        with self._borrowed_buffers(sum(len(answers[index].body) for index in indices)) as buffers:
            if buffers is None:
                return _read_bodies(answers, indices, failures, None), {}
            cut = CutBodies(_complete_bodies(answers, indices), buffers)
            tasks = _read_bodies(answers, indices, failures, cut)
            wire_texts = cut.regular.add_to(rows)
            slices = {
                task.completion_id: task.choice.logprobs
                for task in tasks
                if isinstance(task.choice.logprobs, bytes)
                and task.choice.shape is None
                and task.completion_id not in wire_texts
            }
            if self._scanner_pays(sum(map(len, slices.values()))):
                wire_texts |= read_regular_logprobs(slices, rows, buffers)
            return tasks, wire_texts

    @contextmanager
    def _borrowed_buffers(self, size: int) -> Iterator[ScanBuffers | None]:
        """Memory for scanning this many bytes, which no other thread uses meanwhile; None if scanning does not pay."""
        if not self._scanner_pays(size):
            yield None
            return
        try:
            buffers = self._idle_buffers.get_nowait()
        except Empty:
            buffers = ScanBuffers()
        try:
            yield buffers
        finally:
            self._idle_buffers.put(buffers)

    def _scanner_pays(self, size: int) -> bool:
        """Whether the scanner is there, and reads this many bytes sooner than they are read token by token."""
        return size >= self._scanner_min_bytes and load_scan_loop() is not None


def decode_answers(
    answers: Sequence[Answer], *, batch_bytes: int = BATCH_BYTES, scanner_min_bytes: int = SCANNER_MIN_BYTES
) -> Decoded:
    """Decode raw bodies to tables; an answer that fails costs its neighbours nothing.

    `prompt_tokens` and `completion_tokens` are those of the whole response and stand on the row of each choice.

    Args:
        answers: complete 2xx answers in any order, at most one for each (prompt_index, sample_index). As many threads
            as Arrow has (`pyarrow.set_cpu_count`) share them.
        batch_bytes: see `Decoder`.
        scanner_min_bytes: see `Decoder`.

    Raises:
        ValueError: two answers for one (prompt_index, sample_index), whose rows could not be told apart.
    """
    with Decoder(pa.cpu_count(), batch_bytes=batch_bytes, scanner_min_bytes=scanner_min_bytes) as decoder:
        return decoder.decode(answers)


def _row_order(answers: Sequence[Answer]) -> list[int]:
    """The indices of the answers, in the order of their rows."""
    keys = [(answer.request.prompt_index, answer.request.sample_index) for answer in answers]
    order = sorted(range(len(answers)), key=keys.__getitem__)
    for one, other in pairwise(order):
        if keys[one] == keys[other]:
            raise ValueError(f"answers {one} and {other} are both for prompt_index, sample_index {keys[one]}")
    return order


def _split(answers: Sequence[Answer], order: list[int], batch_bytes: int) -> Iterator[list[int]]:
    """Consecutive batches of `order`, each full once it reaches `batch_bytes`; an empty one if there are no answers."""
    batch: list[int] = []
    size = 0
    for index in order:
        batch.append(index)
        size += len(answers[index].body)
        if size >= batch_bytes:
            yield batch
            batch, size = [], 0
    if batch or not order:
        yield batch


def _complete_bodies(answers: Sequence[Answer], indices: list[int]) -> dict[int, bytes]:
    """By index, the bodies that are known to be JSON, as they were checked before they were cached; in UTF-8."""
    sources = {"api", "batch", "cache"}
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
            reply, placeholders = _read_body(answer, index, cut)
        except DecodeError as error:
            failures[index] = error
            continue
        except RecursionError:
            failures[index] = DecodeError("the answer is nested too deeply")
            continue
        except _FAULTS as error:
            failures[index] = _unforeseen(error)
            continue
        for choice in reply.choices:
            key = completion_id(request.prompt_index, request.sample_index, choice.index)
            tasks.append(DecodingTask(index, answer, reply, choice, key))
            if cut is not None and placeholders and isinstance(choice.logprobs, bytes):
                cut.regular.assign(placeholders[choice.logprobs], key)
    return tasks


def _read_body(answer: Answer, index: int, cut: CutBodies | None) -> tuple[Reply, dict[bytes, int]]:
    """The reply, and the placeholders that its choices have in place of their logprobs."""
    placeholders = {} if cut is None else cut.placeholders(index)
    if cut is not None and placeholders:
        reply = choices.read_with_placeholders(cut.body(index), placeholders)
        if reply is not None:
            return reply, placeholders
    return read_body(answer), {}


def _attempt(
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
    except _FAULTS as error:
        failures[task.answer_index] = _unforeseen(error, f"{task.choice.path}: ")


def _unforeseen(error: BaseException, place: str = "") -> DecodeError:
    """The failure of an answer that makes the decoder raise an error of its own: a bug here, and a bad answer."""
    return DecodeError(f"{place}{UNFORESEEN} ({describe_fault(error)}); please report it")


def _joined(batches: Sequence[Decoded]) -> Decoded:
    """The tables of consecutive batches as one."""
    return Decoded(
        pa.concat_tables([batch.completions for batch in batches]),
        pa.concat_tables([batch.tokens for batch in batches]),
        pa.concat_tables([batch.alternatives for batch in batches]),
        pa.concat_tables([batch.decisions for batch in batches]),
        sorted((failure for batch in batches for failure in batch.failures), key=lambda failure: failure[0]),
        [index for batch in batches for index in batch.not_scanned],
    )
