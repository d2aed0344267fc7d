"""Which Parquet files hold the prompts, what they have in common, and their rows in bounded memory.

Holds `InputFile`, `find_inputs`, the schema that several files agree on, and the scan over their rows. Leaves
out what the columns mean and how a row becomes a prompt (`prompts`).

A file is read a few pages at a time through a small buffer: Arrow's default fetches whole column chunks, and
those of a file of one row group are all of its text. pyarrow.dataset cannot start at a row.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from logprob_store.errors import PromptsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_READ_BUFFER: Final = 1 << 20
_LISTED: Final = 20
_MAGIC: Final = re.compile(r"[*?\[]")
_PARTITION: Final = re.compile(r"[^=]+=.*")
_PLAIN_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,17}")
_HIVE_NULL: Final = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, slots=True)
class InputFile:
    """One Parquet file of prompts.

    `name` is the path below the common root with forward slashes, for manifests; `key=value` folders in it
    are partition columns. `digest` is the sha256 of the whole file in hexadecimal. The footer's would be
    cheaper, but it stays when a text between the smallest and the largest is replaced by one of its length.
    """

    path: Path
    name: str
    rows: int
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Rows:
    """Some consecutive rows of one file.

    `index` is the first row's index over all files, `row` its index in `file`.
    """

    file: InputFile
    index: int
    row: int
    batch: pa.RecordBatch


def find_inputs(pattern: str, *, base: Path) -> list[InputFile]:
    """The files a pattern means, sorted by name.

    Args:
        pattern: a file; a folder, which means every `*.parquet` below it; or a glob (`**` is any depth).
            Hidden names and names that start with `_` are passed over, except `_key=value`.
        base: the folder a relative pattern starts from.

    Raises:
        PromptsError: nothing matches, or a file is not whole, readable Parquet.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "country=fr").mkdir()
    ...     pq.write_table(pa.table({"text": ["Bonjour"]}), Path(folder) / "country=fr/a.parquet")
    ...     [(found.name, found.rows) for found in find_inputs("**/*.parquet", base=Path(folder))]
    [('country=fr/a.parquet', 1)]
    """
    if not pattern:
        raise PromptsError("the path of the prompts is empty: name a Parquet file, a folder or a glob")
    try:
        root, paths = _matches(Path(pattern), base)
    except (OSError, ValueError) as error:
        raise PromptsError(f"prompts {pattern!r} cannot be looked for in {base}: {error}") from error
    if not paths:
        raise PromptsError(_nothing_found(pattern, base))
    return sorted((_inspect(path, root) for path in paths), key=lambda file: file.name)


def unified_schema(inputs: Sequence[InputFile], uses: Mapping[str, str]) -> pa.Schema:
    """The type of each used column that all files can be read as.

    Args:
        inputs: the files, at least one.
        uses: column to what it is used for, which errors name.

    Raises:
        PromptsError: a file lacks a column, has it twice, or with a type that contradicts another file's.
    """
    if not inputs:
        raise PromptsError("there are no prompt files to read columns of")
    partitions = _partition_types(inputs)
    found: dict[str, tuple[InputFile, pa.Field]] = {}
    for file in inputs:
        with _opened(file) as parquet:
            own = parquet.schema_arrow
        present = {key: partitions[key] for key in _partition(file)} | {field.name: field for field in own}
        for name, use in uses.items():
            if name not in present:
                raise PromptsError(_missing(name, use, file, list(present)))
            if len(own.get_all_field_indices(name)) > 1:
                raise PromptsError(f"{file.path} has column {name!r} ({use}) more than once: rename one of them")
            here = _bare(present[name])
            first, field = found.get(name, (file, here))
            found[name] = (first, _common(first, field, file, here))
    return pa.schema([field for _, field in found.values()])


def scan(
    inputs: Sequence[InputFile],
    schema: pa.Schema,
    *,
    skip: int = 0,
    limit: int | None = None,
    batch_rows: int = 1000,
) -> Iterator[Rows]:
    """The rows `skip <= index < limit` over all files in order, with the columns of `schema` only.

    Whole files and whole row groups before `skip` are not read. A batch never spans two files.

    Raises:
        PromptsError: a file is damaged, changed since it was found, or holds a value its common type cannot.
    """
    before = 0
    for file in inputs:
        low = max(skip - before, 0)
        high = file.rows if limit is None else min(limit - before, file.rows)
        if low < high:
            for row, batch in _scan_file(file, low, high, schema, batch_rows):
                yield Rows(file, before + row, row, batch)
        before += file.rows


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text, however it is encoded: plain, dictionary, view, JSON.

    >>> is_text(pa.dictionary(pa.int8(), pa.string())), is_text(pa.binary())
    (True, False)
    """
    if isinstance(kind, pa.JsonType):
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _matches(pattern: Path, base: Path) -> tuple[Path, set[Path]]:
    """The common root of what a pattern can mean, and the files it does mean."""
    whole = base / pattern
    if whole.is_file():
        fixed, found = pattern.parts[:-1], [whole]
    elif whole.is_dir():
        fixed, found = pattern.parts, [whole]
    else:
        fixed = tuple(takewhile(lambda part: not _MAGIC.search(part), pattern.parts))
        rest = pattern.parts[len(fixed) :]
        found = list(base.joinpath(*fixed).glob("/".join(rest))) if rest else []
    top = base.joinpath(*fixed)
    below = (file for path in found for file in (path.rglob("*.parquet") if path.is_dir() else [path]))
    files = {
        file
        for file in below
        if file.is_file() and (file == whole or not any(map(_hidden, file.relative_to(top).parts)))
    }
    # Partition folders that the pattern spells out are part of the name, so that their columns are known too.
    root = base.joinpath(*takewhile(lambda part: not _PARTITION.fullmatch(part), fixed))
    return root, {root / file.relative_to(root) for file in files}


def _hidden(part: str) -> bool:
    return part.startswith(".") or (part.startswith("_") and "=" not in part)


def _nothing_found(pattern: str, base: Path) -> str:
    whole = base / pattern
    nearest = next(folder for folder in whole.parents if folder.is_dir())
    wanted = whole.relative_to(nearest).parts[0]
    listed = islice(nearest.iterdir(), 1000)
    names = [path.name + "/" * path.is_dir() for path in listed if not _hidden(path.name)]
    there = _closest_first(wanted, names) or "nothing"
    return f"no prompts: nothing matches {pattern!r} (looked for {whole}); {nearest} holds: {there}"


def _closest_first(wanted: str, names: list[str]) -> str:
    """Names as a list for people, the one that was probably meant first.

    >>> _closest_first("txt", ["id", "text"])
    "'text', 'id'"
    """
    ranked = difflib.get_close_matches(wanted, names, n=max(len(names), 1), cutoff=0.0)
    more = f" and {len(ranked) - _LISTED} more" if len(ranked) > _LISTED else ""
    return ", ".join(map(repr, ranked[:_LISTED])) + more


def _inspect(path: Path, root: Path) -> InputFile:
    try:
        with pq.ParquetFile(path) as parquet:
            rows = parquet.metadata.num_rows
        with path.open("rb") as raw:
            digest = hashlib.file_digest(raw, "sha256").hexdigest()
            size = raw.tell()
    except (pa.ArrowException, OSError) as error:
        raise PromptsError(
            f"{path} cannot be read as Parquet: {error} Write it again, or narrow the path of the prompts."
        ) from error
    return InputFile(path, path.relative_to(root).as_posix(), rows, size, digest)


@contextmanager
def _opened(file: InputFile) -> Iterator[pq.ParquetFile]:
    """The open file; what Arrow says about its bytes becomes an error that names it."""
    try:
        with pq.ParquetFile(file.path, pre_buffer=False, buffer_size=_READ_BUFFER) as parquet:
            if parquet.metadata.num_rows != file.rows or file.path.stat().st_size != file.size:
                raise PromptsError(
                    f"{file.path} changed while it was read: it had {file.rows} rows in {file.size} bytes. "
                    "Start again once nothing writes it."
                )
            yield parquet
    except (pa.ArrowException, OSError) as error:
        raise PromptsError(f"{file.path} cannot be read, it may be damaged: {error}") from error


def _scan_file(
    file: InputFile, low: int, high: int, schema: pa.Schema, batch_rows: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows `low <= row < high` of one file, each batch with the index of its first row."""
    with _opened(file) as parquet:
        groups, at = _row_groups(parquet.metadata, low, high)
        own = [name for name in schema.names if name in parquet.schema_arrow.names]
        for batch in parquet.iter_batches(batch_size=batch_rows, row_groups=groups, columns=own):
            first, end = max(low - at, 0), min(high - at, batch.num_rows)
            if first < end:
                yield at + first, _conform(batch.slice(first, end - first), schema, file, at + first)
            at += batch.num_rows
            if at >= high:
                return


def _row_groups(metadata: pq.FileMetaData, low: int, high: int) -> tuple[list[int], int]:
    """The row groups that hold the rows `low <= row < high`, and the first row of the first of them."""
    groups: list[int] = []
    start = end = 0
    for group in range(metadata.num_row_groups):
        begin, end = end, end + metadata.row_group(group).num_rows
        if begin < high and end > low:
            start = start if groups else begin
            groups.append(group)
    return groups, start


def _conform(batch: pa.RecordBatch, schema: pa.Schema, file: InputFile, row: int) -> pa.RecordBatch:
    """The batch in the common schema, with partition columns filled in."""
    constants = _partition(file)
    columns = []
    for field in schema:
        if field.name not in batch.schema.names:
            value = pa.scalar(constants[field.name], pa.string())
            columns.append(pa.repeat(value.cast(field.type), batch.num_rows))
            continue
        column = batch.column(field.name)
        try:
            columns.append(column if column.type == field.type else column.cast(field.type))
        except pa.ArrowException as error:
            raise PromptsError(
                f"{file.path}, column {field.name!r}, rows {row} to {row + len(column) - 1}: a value does "
                f"not fit {field.type}, the type all files can be read as: {error}"
            ) from error
    return pa.record_batch(columns, schema=schema)


def _partition(file: InputFile) -> dict[str, str | None]:
    """Partition columns of a file, from the folders in its name.

    >>> _partition(InputFile(Path("x"), "country=C%C3%B4te/day=1/a.parquet", 0, 0, ""))
    {'country': 'Côte', 'day': '1'}
    """
    folders = (part.partition("=") for part in PurePosixPath(file.name).parts[:-1])
    return {
        unquote(key): None if value == _HIVE_NULL else unquote(value)
        for key, equals, value in folders
        if key and equals
    }


def _partition_types(inputs: Sequence[InputFile]) -> dict[str, pa.Field]:
    """A partition column is Int64 when all its values are integers as `str` writes them ("007" is text)."""
    types: dict[str, pa.Field] = {}
    for file in inputs:
        for key, value in _partition(file).items():
            whole = value is None or _PLAIN_INTEGER.fullmatch(value) is not None
            known = types.get(key, pa.field(key, pa.int64()))
            types[key] = known if whole else pa.field(key, pa.string())
    return types


def _bare(field: pa.Field) -> pa.Field:
    """The field without the file's own numbering, which another file would contradict; always nullable."""
    metadata = {key: value for key, value in (field.metadata or {}).items() if key != b"PARQUET:field_id"}
    return pa.field(field.name, field.type, metadata=metadata or None)


def _common(first: InputFile, known: pa.Field, file: InputFile, here: pa.Field) -> pa.Field:
    """One field that both can be read as.

    Metadata counts: polars keeps an Enum's categories there, and two Enums are one Arrow type.
    """
    if known.equals(here, check_metadata=True):
        return known
    if is_text(known.type) and is_text(here.type):
        return pa.field(known.name, pa.large_string())
    plain = [pa.schema([field.remove_metadata()]) for field in (known, here)]
    try:
        return pa.unify_schemas(plain, promote_options="permissive").field(0)
    except pa.ArrowException as error:
        raise PromptsError(
            f"column {known.name!r} is {known.type} in {first.path} and {here.type} in {file.path}: "
            "cast it to one type in all files"
        ) from error


def _missing(name: str, use: str, file: InputFile, present: list[str]) -> str:
    return f"{file.path} has no column {name!r} ({use}); it has: {_closest_first(name, present) or 'none'}"
