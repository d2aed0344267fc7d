"""CSV and JSON Lines files as tables, by polars: a copy in Parquet, which is then read as any other prompts file is.

The copy has no name, so that it goes with the process. Reading the text itself each time was rejected: ids, candidates
and prompts are passes of their own, a run may go on at any row, and what is checked must be what is asked.

What stands in a file is what is sent. So a column of a CSV file is text, unless all values of the column, in all CSV
files, are written as integers or booleans write them ("007" and "1.50" are text); and what JSON nests is kept as JSON
text, because polars would give all its values one shape.
"""

from __future__ import annotations

import codecs
import csv
import glob
import io
import os
import re
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl
from polars.exceptions import NoDataError, PolarsError

from logprob_store.errors import PromptsError
from logprob_store.mended_json import as_utf8, encoding_of
from logprob_store.prompts.text_faults import first_fault

if TYPE_CHECKING:
    from collections.abc import Sequence

CSV_SUFFIXES: Final = (".csv", ".tsv")
JSON_SUFFIXES: Final = (".jsonl", ".ndjson")
_PACKED: Final = (".gz", ".zst")
_PLAIN: Final[dict[pl.DataType, str]] = {pl.Int64(): r"^(0|-?[1-9][0-9]{0,17})$", pl.Boolean(): r"^(true|false)$"}
"""Types other than text, and how their values are written."""
_SEPARATORS: Final = ",;\t|"
_DUPLICATE: Final = re.compile(r"(.*)_duplicated_[0-9]+")
_ROW_GROUP_ROWS: Final = 1 << 16
_JSON_AS_TEXT: Final = (pl.Struct, pl.Int128, pl.UInt128)


class TextTable:
    """The rows of a text file, in Parquet, for as long as somebody has this or a reader of it.

    `size` and `modified_ns` are those of the file before it was read, to see that it stayed as it was.
    """

    def __init__(self, copy: Path, *, size: int, modified_ns: int) -> None:
        self.size = size
        self.modified_ns = modified_ns
        self.descriptor = os.open(copy, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.descriptor)

    def open(self) -> ParquetReader:
        """The Parquet file, from its first byte."""
        return ParquetReader(self)


class ParquetReader(io.RawIOBase):
    """One of several readers of a copy, each with a place of its own."""

    def __init__(self, table: TextTable) -> None:
        self._table = table
        self._size = os.fstat(table.descriptor).st_size
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The place that is read next."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes."""
        wanted = self._size - self._at if size is None or size < 0 else size
        content = os.pread(self._table.descriptor, wanted, self._at)
        self._at += len(content)
        return content


def is_text_table(path: Path) -> bool:
    """Whether a file's name is that of a text table; Parquet under such a name is Parquet.

    >>> is_text_table(Path("a.CSV.gz")), is_text_table(Path("a.json"))
    (True, False)
    """
    if _kind(path) not in {*CSV_SUFFIXES, *JSON_SUFFIXES}:
        return False
    try:
        with path.open("rb") as file:
            return file.read(4) != b"PAR1"
    except OSError:
        return True


def read_text_tables(paths: Sequence[Path]) -> dict[Path, TextTable]:
    """The tables of text files, by path.

    Raises:
        PromptsError: a file cannot be read as what its name says, or there is no room for the copy.
    """
    csv = [path for path in paths if _kind(path) in CSV_SUFFIXES]
    types = _csv_types(csv)
    return {path: _copied(path, types) for path in paths}


def _kind(path: Path) -> str:
    """The suffix that says what a file is, without that of its packing."""
    name = path.name.lower()
    for packed in _PACKED:
        name = name.removesuffix(packed)
    return Path(name).suffix


def _csv_types(paths: Sequence[Path]) -> dict[str, pl.DataType]:
    """For the columns of CSV files that are not text, the type that writes all their values as they stand there."""
    possible: dict[str, set[pl.DataType]] = {}
    for path in paths:
        rows = _scan_csv(path)
        for name, kinds in _types_of_values(path, rows).items():
            possible[name] = possible.get(name, kinds) & kinds
    # A column of nulls alone could be either.
    return {name: next(iter(kinds)) for name, kinds in possible.items() if len(kinds) == 1}


def _types_of_values(path: Path, rows: pl.LazyFrame) -> dict[str, set[pl.DataType]]:
    """For each column of a file, the types that write all its values as they stand there."""
    names = _names(path, rows)
    tests = [
        rows.select(pl.col(names).str.contains(pattern).all())  # true without values
        for pattern in _PLAIN.values()
    ]
    fits = _collected(path, pl.concat(tests)).transpose().rows() if names else []
    return {
        name: {kind for kind, fit in zip(_PLAIN, row, strict=True) if fit}
        for name, row in zip(names, fits, strict=True)
    }


def _read(name: str, kind: pl.DataType) -> pl.Expr:
    text = pl.col(name)
    return (text == "true").alias(name) if kind == pl.Boolean() else text.cast(kind)


def _names(path: Path, rows: pl.LazyFrame) -> list[str]:
    try:
        names = rows.collect_schema().names()
    except PolarsError as error:
        raise _cannot_be_read(path, error) from error
    for name in names:
        if (first := _DUPLICATE.fullmatch(name)) is not None and first[1] in names:
            raise PromptsError(f"{path} has column {first[1]!r} more than once: rename one of them")
    return names


def _collected(path: Path, rows: pl.LazyFrame) -> pl.DataFrame:
    try:
        return rows.collect(engine="streaming")
    except PolarsError as error:
        raise _cannot_be_read(path, error) from error


def _scan_csv(path: Path) -> pl.LazyFrame:
    """The rows as text, without empty lines."""
    rows = pl.scan_csv(_source(path), infer_schema=False, separator=_separator(path), glob=False)
    return rows.filter(~pl.all_horizontal(pl.all().is_null()))


def _source(path: Path) -> Path | bytes:
    """A file; or its text, where it is UTF-16, as spreadsheets and shells of Windows write, or has a mark in front."""
    with path.open("rb") as file:
        head = file.read(4)
    if encoding_of(head) is None and not head.startswith(codecs.BOM_UTF8):
        return path
    return as_utf8(path.read_bytes()).removeprefix(codecs.BOM_UTF8)


def _separator(path: Path) -> str:
    """The separator that parts the first line into most names: not all spreadsheets and exports write commas."""
    if _kind(path) == ".tsv":
        return "\t"
    try:
        first = pl.scan_lines(_source(path), n_rows=1, glob=False).collect().item() if path.stat().st_size else ""
        return max(_SEPARATORS, key=lambda separator: len(next(csv.reader([first], delimiter=separator), [])))
    except (PolarsError, ValueError, csv.Error):
        return ","  # reading the file says what is wrong with it


def _scan_json(path: Path) -> pl.LazyFrame:
    """The rows, with what is nested, and integers that need more than 64 bits, as JSON text."""
    found = _source(path)
    source = glob.escape(str(path)) if isinstance(found, Path) else found
    schema = pl.scan_ndjson(source, infer_schema_length=None).collect_schema()
    return pl.scan_ndjson(
        source, schema={name: pl.String() if _is_text_here(kind) else kind for name, kind in schema.items()}
    )


def _is_text_here(kind: pl.DataType) -> bool:
    if isinstance(kind, pl.List):
        return not isinstance(kind.inner, (pl.String, pl.Null))
    return isinstance(kind, _JSON_AS_TEXT)


def _copied(path: Path, types: dict[str, pl.DataType]) -> TextTable:
    try:
        before = path.stat()
        if _kind(path) in CSV_SUFFIXES:
            scan = _scan_csv(path)
            rows = scan.with_columns(_read(name, types[name]) for name in _names(path, scan) if name in types)
        else:
            rows = _scan_json(path)
        with tempfile.TemporaryDirectory(prefix="logprob-store-") as folder:
            copy = Path(folder) / "prompts.parquet"
            rows.sink_parquet(copy, compression="zstd", compression_level=1, row_group_size=_ROW_GROUP_ROWS)
            return TextTable(copy, size=before.st_size, modified_ns=before.st_mtime_ns)
    except (PolarsError, OSError) as error:
        raise _cannot_be_read(path, error) from error


def _cannot_be_read(path: Path, error: PolarsError | OSError) -> PromptsError:
    said = str(error).strip().partition("\n\n")[0]
    is_csv = _kind(path) in CSV_SUFFIXES
    if isinstance(error, OSError):
        advice = "Allow reading it; a copy of it in Parquet needs room in the folder for temporary files (TMPDIR)"
    elif isinstance(error, NoDataError) or "empty reader" in said:
        return PromptsError(f"{path} is empty: write it again")
    else:
        said = first_fault(path, separator=_separator(path) if is_csv else None) or said
        advice = (
            "Save it as UTF-8, with a header, and with quotes around each value that has a comma, quote or line break"
            if is_csv
            else "Write it as UTF-8, an object a line, with values of one type under a key"
        )
    what = "CSV" if is_csv else "JSON Lines"
    return PromptsError(f"{path} cannot be read as {what}: {' '.join(said.split())}. {advice}.")
