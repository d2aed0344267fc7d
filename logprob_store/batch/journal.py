"""The journal of a run's batches, `runs/run=<run>/batches/`: what was sent, and how far each batch is.

Each step of a batch is written down before it is made and after it, so that a process that was killed at any instant is
followed by one that knows what may be under way at the service. A batch has one file of JSON (`batch-00001.json`), and
until it is collected the file that was sent (`.jsonl`), and the calls and keys of its lines (`.lines`). Failures of its
calls are in `.failures`.
"""

from __future__ import annotations

import struct
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from logprob_store.errors import DiskError, StoreError
from logprob_store.store.durable_files import FILE_MODE, make_folder, replace_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

_T = TypeVar("_T")

FOLDER: Final = "batches"
_NOT_BEGUN: Final = frozenset({"packing", "packed", "uploading", "uploaded"})
OVER: Final = frozenset({"collected", "dissolved", "abandoned"})
"""The states in which a batch has nothing left to do."""

_LINE: Final = struct.Struct("<Q32s")
"""The number of a line's call, and its request key."""


class SentBatch(msgspec.Struct, omit_defaults=True):
    """One batch of a run.

    `state` says which step is next: `packing` (its calls are not recorded yet), `packed`, `uploading`, `uploaded`,
    `creating`, `created`, `ended`, `downloaded`; then it is `collected`, or `dissolved` if the service refused all of
    it and billed nothing, or `abandoned` at the deadline. `status` is the service's own word. `first_call` is the
    number of the first line's call in the run's record of calls, and the other lines follow. `doubted` has such first
    numbers for each time that it was begun again because no list of the service showed it: nobody knows yet whether
    that was one batch more. `tokens` are about those
    of the prompts. `past_ids` are of batches that the service refused before it began them, because too much was
    queued. `said` has the service's words about a failure.
    """

    number: int
    state: str
    model: str
    lines: int
    size: int
    sha256: str
    tokens: int
    first_call: int = 0
    doubted: list[int] = []
    file_id: str = ""
    batch_id: str = ""
    past_ids: list[str] = []
    status: str = ""
    done: int = 0
    failed: int = 0
    created_at: datetime | None = None
    started_at: datetime | None = None
    expires_at: datetime | None = None
    ended_at: datetime | None = None
    is_cancelled: bool = False
    output_file_id: str = ""
    error_file_id: str = ""
    answered: int = 0
    usd: float | None = None
    said: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it has steps left."""
        return self.state not in OVER

    @property
    def is_begun(self) -> bool:
        """Whether the service has it, or may have it."""
        return self.is_open and self.state not in _NOT_BEGUN

    @property
    def numbers(self) -> range:
        """The numbers of its calls in the run's record of calls."""
        return range(self.first_call, self.first_call + self.lines)

    @property
    def doubted_numbers(self) -> list[int]:
        """The numbers that its calls have for the times that nobody knows of."""
        return [number for first in self.doubted for number in range(first, first + self.lines)]

    @property
    def name(self) -> str:
        """The name of its files."""
        return f"batch-{self.number:05d}"


class FailedLine(msgspec.Struct, omit_defaults=True):
    """A call that a batch gave no answer to, by its number and request key; `again` says whether another batch may."""

    call: int
    key: str
    error_type: str
    message: str
    status: int | None = None
    maybe_billed: bool = False
    attempts: int = 1
    again: bool = False


class Journal:
    """The batches of a run, in the order in which they were packed.

    Args:
        run_folder: of the run.
        mode: the permissions of new files.

    Raises:
        StoreError: a file of the journal cannot be read.
    """

    def __init__(self, run_folder: Path, *, mode: int = FILE_MODE) -> None:
        self.folder = run_folder / FOLDER
        self.mode = mode
        self.batches = read_batches(run_folder)

    @property
    def open(self) -> list[SentBatch]:
        """The batches that have steps left."""
        return [batch for batch in self.batches if batch.is_open]

    def next_number(self) -> int:
        """The number of the next batch."""
        return max((batch.number for batch in self.batches), default=0) + 1

    def add(self, batch: SentBatch) -> None:
        """Write a new batch down."""
        self.write(batch)
        self.batches.append(batch)

    def write(self, batch: SentBatch, **changes: object) -> None:
        """Write down how far a batch is, with these fields changed; durable when it returns."""
        for name, value in changes.items():
            setattr(batch, name, value)
        self._replace(batch, "json", msgspec.json.encode(batch) + b"\n")

    def _replace(self, batch: SentBatch, kind: str, content: bytes) -> None:
        path = self.path(batch, kind)
        try:
            make_folder(self.folder)
            replace_file(path, content, mode=self.mode)
        except OSError as error:
            raise DiskError("how far a batch is", path, error, of_answers=False) from error

    def path(self, batch: SentBatch, kind: str) -> Path:
        """A file of a batch: `json`, `jsonl`, `lines`, `failures`, `output`, `errors`."""
        return self.folder / f"{batch.name}.{kind}"

    def remove(self, batch: SentBatch, *kinds: str) -> None:
        """Remove files of a batch that are of no use any more."""
        for kind in kinds:
            self.path(batch, kind).unlink(missing_ok=True)

    def lines(self, batch: SentBatch) -> list[tuple[int, str]]:
        """The call and the request key of each line.

        Raises:
            StoreError: the file that has them is gone or damaged.
        """
        return read_lines(self.path(batch, "lines"), batch)

    def write_failures(self, batch: SentBatch, failures: Iterable[FailedLine]) -> None:
        """Write down which calls of a batch failed.

        Raises:
            DiskError: it cannot be written.
        """
        self._replace(batch, "failures", b"".join(msgspec.json.encode(failure) + b"\n" for failure in failures))

    def failures(self, *, before: int | None = None) -> dict[int, FailedLine]:
        """The last failure of each call that failed in a batch, by the call's number.

        Args:
            before: the number of a batch; that one and later ones are left out.
        """
        found: dict[int, FailedLine] = {}
        for batch in self.batches:
            if before is not None and batch.number >= before:
                break
            found |= {failure.call: failure for failure in self._failures_of(batch)}
        return found

    def drop_failures(self, has_row: Callable[[int], bool]) -> None:
        """Drop the failures of calls that have a row of them by now."""
        for batch in self.batches:
            failures = self._failures_of(batch)
            left = [failure for failure in failures if not has_row(failure.call)]
            if not left:
                self.remove(batch, "failures")
            elif len(left) < len(failures):
                self.write_failures(batch, left)

    def _failures_of(self, batch: SentBatch) -> list[FailedLine]:
        return read_failures(self.path(batch, "failures"))


def pack_line(call: int, key: str) -> bytes:
    """A line's entry in the file of calls and keys."""
    return _LINE.pack(call, bytes.fromhex(key))


def read_batches(run_folder: Path) -> list[SentBatch]:
    """The batches of a run, by number.

    Raises:
        StoreError: one cannot be read.
    """
    paths = sorted((run_folder / FOLDER).glob("batch-*.json"))
    batches = [_read(path, lambda content: msgspec.json.decode(content, type=SentBatch)) for path in paths]
    return sorted(batches, key=lambda batch: batch.number)


def damage_of(run_folder: Path) -> Iterator[tuple[Path, str]]:
    """The batches of a run of which a file cannot be read: their own file, and a sentence about it."""
    for path in sorted((run_folder / FOLDER).glob("batch-*.json")):
        try:
            batch = _read(path, lambda content: msgspec.json.decode(content, type=SentBatch))
            read_failures(path.with_suffix(".failures"))
            if batch.is_open:
                read_lines(path.with_suffix(".lines"), batch)
        except StoreError as error:
            yield path, str(error)


def read_failures(path: Path) -> list[FailedLine]:
    """The calls of a batch that failed; none without a file.

    Raises:
        StoreError: it is damaged.
    """
    if not path.exists():
        return []
    decoder = msgspec.json.Decoder(FailedLine)
    return _read(path, lambda content: [decoder.decode(line) for line in content.split(b"\n") if line])


def read_lines(path: Path, batch: SentBatch) -> list[tuple[int, str]]:
    """The call and the request key of each line of a batch.

    Raises:
        StoreError: the file is gone or damaged.
    """

    def unpack(content: bytes) -> list[tuple[int, str]]:
        lines = [(call, key.hex()) for call, key in _LINE.iter_unpack(content)]
        if len(lines) != batch.lines:
            raise ValueError(f"it has {len(lines)} lines of {batch.lines}")
        return lines

    return _read(path, unpack)


def _read(path: Path, decode: Callable[[bytes], _T]) -> _T:
    """What a file of the journal says.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        return decode(path.read_bytes())
    except (OSError, ValueError, struct.error) as error:  # those of msgspec are ValueErrors
        state = path.with_suffix(".json")
        raise StoreError(
            f"{path} cannot be read: {error}. It says what is under way at the service: put it back from a backup; or "
            f"move {state} away, then the calls of that batch are sent and paid for again"
        ) from error
