"""A digest of the first rows of a prompts file: of their values in the columns that a job reads, not of its bytes.

Parquet is written anew as a whole when rows are added to it, with other bytes throughout. This digest depends on
neither row groups, encodings nor compression, and it can be taken after any row. Each column is some streams of bytes,
hashed one by one: lengths, nulls and values. Hashes of rows by polars were rejected: they differ between its versions.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from logprob_store.prompts.columns import checked_schema, is_list, is_text, stored_schema
from logprob_store.prompts.scanning import scan_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from logprob_store.prompts.columns import Columns
    from logprob_store.prompts.input_files import InputFile

_BATCH_ROWS: Final = 65_536


class RowDigests:
    """Digests of the rows of prompts files, in the columns that a job reads.

    Args:
        inputs: all files, which have one schema together.
        columns: what the job reads.
    """

    def __init__(self, inputs: Sequence[InputFile], columns: Columns) -> None:
        self._inputs = inputs
        self._columns = columns

    @cached_property
    def _schema(self) -> pa.Schema:
        return checked_schema(self._inputs, self._columns.roles())

    def types(self) -> dict[str, str]:
        """The type of each column, as all files have it and, if it is kept, as the store has it."""
        kept = stored_schema(self._schema, self._columns, self._inputs)
        return {field.name: _type_of(field) for field in self._schema} | {field.name: _spelled(field) for field in kept}

    def digests_after(self, name: str, rows: Sequence[int]) -> list[str]:
        """The digest of the first so many rows of a file, for each number of rows, in ascending order.

        Raises:
            PromptsError: the file cannot be read, or has changed since it was found.
        """
        (file,) = (file for file in self._inputs if file.name == name)
        digest, found, start = _RowDigest(), [], 0
        for stop in rows:
            for batch in scan_rows([file], self._schema, skip=start, limit=stop, batch_rows=_BATCH_ROWS):
                for column in self._schema.names:
                    digest.add(column, batch.record_batch.column(column))
            found.append(digest.hexdigest())
            start = stop
        return found


def _type_of(field: pa.Field) -> str:
    """A type by what is sent of it: texts are alike in all their encodings."""
    return "text" if is_text(field.type) else _spelled(field)


def _spelled(field: pa.Field) -> str:
    """A field's type, with its metadata: the categories of an Enum are there."""
    metadata: Mapping[bytes, bytes] = field.metadata or {}
    return " ".join([str(field.type), *(f"{key!r}={value!r}" for key, value in sorted(metadata.items()))])


class _RowDigest:
    """Hashes of streams, one for each part of each column, by the part's path."""

    def __init__(self) -> None:
        self._streams: dict[str, Any] = {}

    def hexdigest(self) -> str:
        """The digest of what was added."""
        whole = hashlib.sha256()
        for path, stream in sorted(self._streams.items()):
            whole.update(f"{len(path)} {path} {stream.hexdigest()}\n".encode())
        return whole.hexdigest()

    def add(self, path: str, column: pa.Array) -> None:
        """Add the next values of a column."""
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        kind = column.type
        if types.is_dictionary(kind):
            self.add(path, column.dictionary_decode())
        elif is_text(kind) or _is_bytes(kind):
            self._add_bytes(path, column.cast(pa.large_binary()))
        elif is_list(kind):
            self._add_numbers(f"{path} lengths", pc.fill_null(pc.list_value_length(column).cast(pa.int64()), -1))
            self.add(f"{path} values", pc.list_flatten(column))
        elif types.is_struct(kind):
            self._add_numbers(f"{path} valid", column.is_valid().cast(pa.uint8()))
            for number, field in enumerate(column.flatten()):
                self.add(f"{path} field {number} {kind.field(number).name}", field)
        elif types.is_null(kind) or _has_width(kind):
            self._add_numbers(f"{path} valid", column.is_valid().cast(pa.uint8()))
            if not types.is_null(kind):
                values = column.drop_null()
                self._add_numbers(f"{path} values", values.cast(pa.uint8()) if types.is_boolean(kind) else values)
        else:
            self._update(f"{path} text", "".join(f"{value!r}\n" for value in column.to_pylist()).encode())

    def _add_bytes(self, path: str, column: pa.LargeBinaryArray) -> None:
        self._add_numbers(f"{path} lengths", pc.fill_null(pc.binary_length(column), -1))
        column = column.drop_null()
        if len(column):
            _, offsets, values = column.buffers()
            ends = memoryview(offsets).cast("q")
            self._update(f"{path} values", memoryview(values)[ends[column.offset] : ends[column.offset + len(column)]])

    def _add_numbers(self, path: str, column: pa.Array) -> None:
        """Add values of one width, none of them null."""
        width = column.type.bit_width // 8
        if len(column):
            values = memoryview(column.buffers()[1])
            self._update(path, values[column.offset * width : (column.offset + len(column)) * width])

    def _update(self, path: str, content: bytes | memoryview) -> None:
        self._streams.setdefault(path, hashlib.sha256()).update(content)


def _is_bytes(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (types.is_binary, types.is_large_binary, types.is_binary_view))


def _has_width(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (types.is_primitive, types.is_decimal, types.is_fixed_size_binary))
