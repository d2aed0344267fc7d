"""The rows of all prompt files, in order and in bounded memory, and the number of calls that each row makes.

pyarrow.dataset was rejected because it cannot start at a given row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from logprob_store.errors import PromptsError
from logprob_store.prompts.columns import checked_schema, is_list
from logprob_store.schema import SAMPLES_PER_PROMPT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow.parquet as pq

    from logprob_store.prompts.columns import Columns
    from logprob_store.prompts.input_files import InputFile

_COUNT_BATCH_ROWS: Final = 8192
_BATCH_BYTES: Final = 1 << 20
"""The bytes of a batch, about. What is made of a batch takes several times as much."""
_PIECES: Final = 64
_SMALLEST_PIECE_ROWS: Final = 100
"""Rows that are read at once are a 64th of a batch, or these where rows are small; fewer cost time."""
_STILL_SMALLER: Final = 0.75
"""The share of a batch that its larger half may have, if halving it is of use: dictionaries are whole in both."""


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Consecutive rows of one file.

    `first_index` is the index of the first row over all files, `first_row` its index in `file`; both count from 0.
    """

    file: InputFile
    first_index: int
    first_row: int
    record_batch: pa.RecordBatch

    @property
    def location(self) -> str:
        """The file and its rows, for error messages."""
        return f"{self.file.path}, rows {self.first_row} to {self.first_row + self.record_batch.num_rows - 1}"


def scan_rows(
    inputs: Sequence[InputFile],
    schema: pa.Schema,
    *,
    skip: int = 0,
    limit: int | None = None,
    batch_rows: int = 1000,
) -> Iterator[RowBatch]:
    """The rows `skip <= index < limit` over all files, in order, with only the columns of `schema`.

    Files and row groups that end before `skip` are not read. A batch never spans two files, and has 2 MB at most if it
    has more than one row.

    Raises:
        PromptsError: a file is damaged, has changed since it was found, or holds a value that does not fit the type
            in `schema`.
    """
    rows_before = 0
    for file in inputs:
        start = max(skip - rows_before, 0)
        stop = file.rows if limit is None else min(limit - rows_before, file.rows)
        if start < stop:
            for row, record_batch in _scan_file(file, start, stop, schema, batch_rows):
                yield RowBatch(file, rows_before + row, row, record_batch)
        rows_before += file.rows


def candidate_counts(inputs: Sequence[InputFile], columns: Columns) -> pl.Series | None:
    """The number of continuations of each row over all files, and so of its calls; None where every row makes one call.

    A row without continuations counts as 1: it becomes one failure. Takes 4 bytes of memory a row.

    Returns:
        Int32[rows], or None if there is no column of continuations or it holds plain text.

    Raises:
        PromptsError: the column cannot be read, or a row has more continuations than a completion_id can number.
    """
    if columns.continuations is None or not inputs:
        return None
    schema = checked_schema(inputs, [("continuations", columns.continuations)])
    if not is_list(schema.field(0).type):
        return None
    counts = [pl.Series(dtype=pl.Int32)]
    for batch in scan_rows(inputs, schema, batch_rows=_COUNT_BATCH_ROWS):
        lengths = pc.fill_null(pc.list_value_length(batch.record_batch.column(0)), 0).cast(pa.int32())
        counts.append(pl.Series(values=lengths).clip(1))
        if (row := counts[-1].arg_max()) is not None and counts[-1][row] > SAMPLES_PER_PROMPT:
            raise PromptsError(
                f"{batch.file.path}, row {batch.first_row + row}: column {columns.continuations!r} holds "
                f"{counts[-1][row]} texts; at most {SAMPLES_PER_PROMPT} can be told apart. Write them into several rows"
            )
    return pl.concat(counts)


def _scan_file(
    file: InputFile, start: int, stop: int, schema: pa.Schema, batch_rows: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows `start <= row < stop` of one file, each batch with the index of its first row."""
    with file.open() as parquet, file.change_check() as check_unchanged:
        groups, row = _row_groups(parquet.metadata, start, stop)
        present = set(parquet.schema_arrow.names)
        stored = [name for name in schema.names if name in present]
        piece_rows = _rows_at_once(parquet.metadata, groups, stored, batch_rows)
        pieces = parquet.iter_batches(batch_size=piece_rows, row_groups=groups, columns=stored)
        for batch in _batches(_rows_between(pieces, start - row, stop - row, check_unchanged), batch_rows):
            first_row = max(row, start)
            yield first_row, _with_schema(batch, schema, file, first_row)
            row = first_row + batch.num_rows
        if row >= stop:
            return
    # If a file is truncated while Arrow reads it, Arrow returns the rows that are left and raises nothing.
    raise file.changed_error()


def _rows_at_once(metadata: pq.FileMetaData, groups: Sequence[int], columns: Sequence[str], batch_rows: int) -> int:
    """Rows to read at once, so that they have no more than `_BATCH_BYTES` where rows are of one size.

    The file's footer has only sums, and texts that repeat are few bytes there: what is read is measured again.
    """
    names = frozenset(columns)
    bytes_of_a_row = 1.0
    for group in map(metadata.row_group, groups):
        chunks = map(group.column, range(group.num_columns))
        size = sum(chunk.total_uncompressed_size for chunk in chunks if _is_of(chunk.path_in_schema, names))
        bytes_of_a_row = max(bytes_of_a_row, size / max(1, group.num_rows))
    return max(1, min(int(_BATCH_BYTES / bytes_of_a_row), batch_rows, max(_SMALLEST_PIECE_ROWS, batch_rows // _PIECES)))


def _is_of(path: str, names: frozenset[str]) -> bool:
    """Whether the path of a leaf in the file is that of a column or of a part of it; names may have dots in them."""
    return path in names or any(path[: dot.start()] in names for dot in re.finditer(r"\.", path))


def _rows_between(
    pieces: Iterator[pa.RecordBatch], start: int, stop: int, check_unchanged: Callable[[], None]
) -> Iterator[pa.RecordBatch]:
    """The rows `start <= row < stop` of the pieces, counted from the first row of the first piece."""
    row = 0
    for piece in pieces:
        check_unchanged()
        first, last = max(start - row, 0), min(stop - row, piece.num_rows)
        if first < last:
            yield piece.slice(first, last - first)
        row += piece.num_rows
        if row >= stop:
            return


def _batches(pieces: Iterator[pa.RecordBatch], batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The rows of the pieces, joined or cut so that a batch has at most `batch_rows` rows, and `_BATCH_BYTES`."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    parts = (part for piece in pieces for part in _small_parts(piece, piece.nbytes))
    for piece in parts:
        if held and (rows + piece.num_rows > batch_rows or size + piece.nbytes > _BATCH_BYTES):
            yield pa.concat_batches(held)
            held, rows, size = [], 0, 0
        held.append(piece)
        rows += piece.num_rows
        size += piece.nbytes
    if held:
        yield pa.concat_batches(held)


def _small_parts(batch: pa.RecordBatch, size: int) -> Iterator[pa.RecordBatch]:
    """A batch, halved until each part has at most `_BATCH_BYTES` or a single row."""
    middle = batch.num_rows // 2
    halves = [batch.slice(0, middle), batch.slice(middle)] if size > _BATCH_BYTES and middle else []
    if not halves or min(half.nbytes for half in halves) > _STILL_SMALLER * size:
        yield batch
        return
    for half in halves:
        yield from _small_parts(half, half.nbytes)


def _row_groups(metadata: pq.FileMetaData, start: int, stop: int) -> tuple[list[int], int]:
    """The row groups that hold the rows `start <= row < stop`, and the first row of the first of these groups."""
    groups: list[int] = []
    first_row = group_stop = 0
    for group in range(metadata.num_row_groups):
        group_start, group_stop = group_stop, group_stop + metadata.row_group(group).num_rows
        if group_start < stop and group_stop > start:
            first_row = first_row if groups else group_start
            groups.append(group)
    return groups, first_row


def _with_schema(batch: pa.RecordBatch, schema: pa.Schema, file: InputFile, first_row: int) -> pa.RecordBatch:
    """The batch cast to the schema that all files share, with partition columns filled in."""
    constants = file.partition()
    stored = dict(zip(batch.schema.names, batch.columns, strict=True))
    columns = []
    for field in schema:
        if field.name not in stored:
            value = pa.scalar(constants[field.name], pa.string())
            columns.append(pa.repeat(value.cast(field.type), batch.num_rows))
            continue
        column = stored[field.name]
        try:
            columns.append(column if column.type == field.type else column.cast(field.type))
        except pa.ArrowException as error:
            raise PromptsError(
                f"{file.path}, column {field.name!r}, rows {first_row} to {first_row + len(column) - 1}: a value does "
                f"not fit {field.type}, the type all files can be read as: {error}"
            ) from error
    return pa.record_batch(columns, schema=schema)
