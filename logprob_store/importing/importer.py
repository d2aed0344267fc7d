"""One session of importing: every record once, in the order of files and lines; parts are written while it reads on.

Holds the way of a record into the ledger and the rows. Leaves out what files and records are (`sources`, `records`),
the opening of the run (`importing`), and the threads that decode and commit (`committing`).

A Batch API output line takes its request from the input files by `custom_id`, never by its place. What is read and not
yet written is bounded by bytes, as in a run: one part being filled, one decoded, one written.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from logprob_store.errors import PromptError
from logprob_store.importing.ledger import Ledger, body_digest
from logprob_store.importing.packed_files import open_file
from logprob_store.importing.part_rows import Rows
from logprob_store.importing.records import BAD_LINE, Record, problem, read_records
from logprob_store.importing.sources import items_of
from logprob_store.run.commit import PARTS_IN_FLIGHT, Committer
from logprob_store.store.manifest import Input

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from logprob_store.importing.known_requests import BatchInputs
    from logprob_store.importing.sources import Source
    from logprob_store.run.commit import Undecoded
    from logprob_store.store.writing import RunWriter


@dataclass(slots=True)
class ImportSummary:
    """What a session imported and how the run stands.

    Args:
        run: the run.
        store: the store.
        files: files read.
        size: bytes read, unpacked.
        records: answers and failures found in them.
        already: those that the run had, or that stood in another file before.
        added: answers that are now in the store.
        problems: failures that this session added, by error_type.
        ambiguous: answers without a request, because the input files have several under their custom_id.
        failures: failures open in the run.
        completions: in the run.
        tokens: in the run.
        seconds: how long it took.
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
    seconds: float = 0.0


class ImportSession:
    """One session of a run of imports: what is read and not yet written, and the part that is being written."""

    def __init__(
        self,
        writer: RunWriter,
        inputs: BatchInputs,
        provider: str,
        part_bytes: int,
        on_progress: Callable[[ImportSummary], None] | None,
    ) -> None:
        self.summary = ImportSummary(writer.run, writer.store)
        self._writer = writer
        self._inputs = inputs
        self._provider = provider
        self._part_bytes = part_bytes
        self._on_progress = on_progress
        self._ledger = Ledger(writer)
        self._rows = Rows()
        self._under_way: deque[Future[list[Undecoded]]] = deque()
        self._committer = Committer(writer)

    def run(self, sources: Sequence[Source], requests: Collection[Source]) -> None:
        """Import the files, then note what was asked in `requests` and answered nowhere."""
        state = "interrupted"
        try:
            for source in sources:
                self._import_file(source, is_requests=source in requests)
            self._note_unanswered()
            self._flush()
            while self._under_way:
                self._await_first()
            state = "finished"
        finally:
            self._committer.close()
            self._writer.finish(state)
        counts = self._writer.manifest.counts
        self.summary.added = self.summary.records - self.summary.already - sum(self.summary.problems.values())
        self.summary.failures = counts.failures
        self.summary.completions = counts.completions
        self.summary.tokens = counts.tokens

    def _import_file(self, source: Source, *, is_requests: bool) -> None:
        copies: Counter[bytes] = Counter()
        reader, counted = open_file(source.path)
        records = 0
        with reader:
            for record in read_records(items_of(reader)):
                if not (is_requests and record.input):
                    records += 1
                    self._add(source.name, record, copies)
        self.summary.files += 1
        self.summary.size += counted.size
        read = Input(source.name, records, counted.size, f"crc32:{counted.crc32:08x}")
        self._rows.files.append(read)

    def _add(self, file: str, record: Record, copies: Counter[bytes]) -> None:
        self.summary.records += 1
        if record.input:
            wrong = "a Batch API request among responses; requests belong in a file of their own"
            record = replace(record, problem=problem(f"line {record.place}: {wrong}", error_type=BAD_LINE))
        elif record.source == "batch":
            record = self._with_request(record)
        digest, sha256 = body_digest(record.body)
        record, request = self._with_digest(record)
        copy = 0
        if record.id is None and record.response_id is None:
            copy = copies[digest + (request or b"")]
            copies[digest + (request or b"")] += 1
        slot = self._ledger.place(record, request, digest, copy)
        if slot is None:
            self.summary.already += 1
            return
        if record.problem is not None:
            self._count(record.problem.error_type)
        self._rows.add(file, record, slot, sha256=sha256, provider=self._provider)
        if self._rows.weight >= self._part_bytes:
            self._flush()

    def _with_request(self, record: Record) -> Record:
        asked = self._inputs.get(record.id or "")
        self.summary.ambiguous += len(asked) > 1
        return replace(record, asked=asked[0]) if len(asked) == 1 else record

    def _with_digest(self, record: Record) -> tuple[Record, bytes | None]:
        """The digest of what was asked; a request that has no canonical form counts as not known."""
        if record.asked is None:
            return record, None
        try:
            return record, record.asked.digest(self._provider)
        except PromptError:
            return replace(record, asked=None), None

    def _note_unanswered(self) -> None:
        """Failures for the requests of input files that no output has a line for, now or earlier."""
        for custom_id, asked in self._inputs:
            if not self._ledger.has(custom_id, asked.digest(self._provider)):
                missing = problem("no line in any output or error file answers it", error_type="no_answer")
                record = Record("", 0, b"", source="batch", id=custom_id, asked=asked, problem=missing)
                self._add("", record, Counter())

    def _flush(self) -> None:
        """Hand over what is read to be decoded and written, once there is room."""
        rows, self._rows = self._rows, Rows()
        while len(self._under_way) >= PARTS_IN_FLIGHT:
            self._await_first()
        self._under_way.append(self._committer.submit(rows.contents(self._ledger.next_index)))

    def _await_first(self) -> None:
        """Wait for the first part under way, and take note of what could not be decoded."""
        for _, row in self._under_way.popleft().result():
            self._ledger.failed(row["prompt_index"], row["sample_index"])
            self._count(row["error_type"])
        if self._on_progress is not None:
            self._on_progress(self.summary)

    def _count(self, error_type: str) -> None:
        self.summary.problems[error_type] = self.summary.problems.get(error_type, 0) + 1
