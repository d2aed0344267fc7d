"""One import: reads each record once, in the order of files and lines, while earlier parts are decoded and written.

An output line of the Batch API gets its request from the input files by `custom_id`, never by its position. As in a
run, memory is bounded by bytes: one part is being filled, one decoded, one written.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from logprob_store.errors import PromptError
from logprob_store.importing.body_identity import BodyIdentity
from logprob_store.importing.ledger import Ledger
from logprob_store.importing.part_rows import PartRows
from logprob_store.importing.records import BAD_LINE, Record, read_records, recorded_error
from logprob_store.run.parts import PARTS_IN_FLIGHT, Committer
from logprob_store.store.manifest import Input

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from logprob_store.importing.known_requests import BatchRequests
    from logprob_store.importing.sources import Source
    from logprob_store.run.parts import Undecoded
    from logprob_store.store.commit import RunWriter


@dataclass(slots=True)
class ImportSummary:
    """What an import added, and the state of the run after it.

    Args:
        run: the run.
        store: the store.
        files: files read.
        size: bytes read, after decompression.
        records: answers and failures found in the files.
        already: records that the run had, or that an earlier file of this import held.
        added: answers that are now in the store.
        problems: number of failures that this import added, by error_type.
        ambiguous: answers without a request, because the input files have several under their custom_id.
        failures: open failures in the run.
        completions: completions in the run.
        tokens: tokens in the run.
        decisions: options of typed questions in the run.
        seconds: how long the import took.
    """

    run: str
    store: Path
    files: int = 0
    size: int = 0
    records: int = 0
    already: int = 0
    added: int = 0
    problems: dict[str, int] = field(default_factory=dict)
    ambiguous: int = 0
    failures: int = 0
    completions: int = 0
    tokens: int = 0
    decisions: int = 0
    seconds: float = 0.0


class Importer:
    """One import into a run: the part that is being filled, and the parts submitted to be decoded and written."""

    def __init__(
        self,
        writer: RunWriter,
        requests: BatchRequests,
        provider: str,
        part_bytes: int,
        on_progress: Callable[[ImportSummary], None] | None,
    ) -> None:
        self.summary = ImportSummary(writer.run, writer.store)
        self._writer = writer
        self._requests = requests
        self._provider = provider
        self._part_bytes = part_bytes
        self._on_progress = on_progress
        self._ledger = Ledger(writer)
        self._part = PartRows()
        self._submitted: deque[Future[list[Undecoded]]] = deque()
        self._committer = Committer(writer)

    def run(self, sources: Sequence[Source], input_files: Collection[Source]) -> None:
        """Import the files, then add a failure for each request of `input_files` that no file answers."""
        state = "interrupted"
        try:
            for source in sources:
                self._import_file(source, is_input_file=source in input_files)
            self._add_unanswered()
            self._submit_part()
            while self._submitted:
                self._await_oldest_part()
            state = "finished"
        finally:
            self._committer.close()
            self._writer.finish(state)
        counts = self._writer.manifest.counts
        self.summary.added = self.summary.records - self.summary.already - sum(self.summary.problems.values())
        self.summary.failures = counts.failures
        self.summary.completions = counts.completions
        self.summary.tokens = counts.tokens
        self.summary.decisions = counts.decisions

    def _import_file(self, source: Source, *, is_input_file: bool) -> None:
        copies: Counter[tuple[int, bytes]] = Counter()
        reader, content = source.open()
        records = 0
        with reader:
            for record in read_records(reader):
                if not (is_input_file and record.is_batch_input):
                    records += 1
                    self._add(source.name, record, copies)
        self.summary.files += 1
        self.summary.size += content.size
        self._part.files.append(Input(source.name, records, content.size, f"crc32:{content.crc32:08x}"))

    def _add(self, file: str, record: Record, copies: Counter[tuple[int, bytes]]) -> None:
        """Add a record to the part, unless the run has it; `copies` counts equal records without any id in `file`."""
        self.summary.records += 1
        if record.is_batch_input:
            message = "a Batch API request among responses; requests belong in a file of their own"
            record = replace(record, problem=recorded_error(f"line {record.place}: {message}", error_type=BAD_LINE))
        elif record.source == "batch":
            record = self._with_batch_request(record)
        body = BodyIdentity(record.body)
        record, request_digest = self._with_request_digest(record)
        assignment = self._ledger.assign(record, request_digest, body, copies)
        if assignment is None:
            self.summary.already += 1
            return
        if record.problem is not None:
            self._count_problem(record.problem.error_type)
        self._part.add(file, record, assignment, body=body, provider=self._provider)
        if self._part.size_bytes >= self._part_bytes:
            self._submit_part()

    def _with_batch_request(self, record: Record) -> Record:
        found = self._requests.get(record.prompt_id or "")
        self.summary.ambiguous += len(found) > 1
        return replace(record, request=found[0]) if len(found) == 1 else record

    def _with_request_digest(self, record: Record) -> tuple[Record, bytes | None]:
        """The record and its request's digest; a request without a canonical form counts as unknown."""
        if record.request is None:
            return record, None
        try:
            return record, record.request.digest(self._provider)
        except PromptError:
            return replace(record, request=None), None

    def _add_unanswered(self) -> None:
        """Add a failure for each request of the input files for which the run has no record."""
        for custom_id, request in self._requests:
            if not self._ledger.has_prompt(custom_id, request.digest(self._provider)):
                missing = recorded_error("no line in any output or error file answers it", error_type="no_answer")
                record = Record("", b"", source="batch", prompt_id=custom_id, request=request, problem=missing)
                self._add("", record, Counter())

    def _submit_part(self) -> None:
        """Submit the part to be decoded and written; waits while `PARTS_IN_FLIGHT` parts are under way."""
        part, self._part = self._part, PartRows()
        while len(self._submitted) >= PARTS_IN_FLIGHT:
            self._await_oldest_part()
        self._submitted.append(self._committer.submit(part.contents(self._ledger.next_index)))

    def _await_oldest_part(self) -> None:
        """Wait until the oldest submitted part is written, and mark its answers that could not be decoded as failed."""
        for _, row in self._submitted.popleft().result():
            self._ledger.mark_failed(row["prompt_index"], row["sample_index"])
            self._count_problem(row["error_type"])
        if self._on_progress is not None:
            self._on_progress(self.summary)

    def _count_problem(self, error_type: str) -> None:
        self.summary.problems[error_type] = self.summary.problems.get(error_type, 0) + 1
