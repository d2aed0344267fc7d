"""The files that hold the prompts: finding them, identifying them by content, opening them."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from logprob_store.errors import PromptsError
from logprob_store.prompts.file_search import find_files, is_hidden
from logprob_store.prompts.not_parquet import what_it_is
from logprob_store.prompts.text_tables import is_text_table, read_text_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from logprob_store.prompts.text_tables import ParquetReader, TextTable

_READ_BUFFER_BYTES: Final = 1 << 20
_MOST_LISTED: Final = 20
_MOST_FILES_LISTED: Final = 6
_EXPECTED: Final = "prompts are read from .parquet, .csv, .tsv, .jsonl and .ndjson"
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_HIVE_NULL: Final = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of prompts: Parquet, or CSV or JSON Lines with its rows as `text_table`.

    `name` is the path below the common root with forward slashes, for manifests; `key=value` folders in it
    are partition columns. `size` is in bytes. `digest` is the sha256 of the whole file in hexadecimal, not of its
    footer: see docs/decisions/0006-input-identity.md. `modified_ns` is the time of the last write in nanoseconds
    since 1970; 0 switches the check of that time off.
    """

    path: Path
    name: str
    rows: int
    size: int
    digest: str
    modified_ns: int = 0
    text_table: TextTable | None = field(default=None, repr=False, compare=False)

    def partition(self) -> dict[str, str | None]:
        """The partition columns, from the folders in the name.

        >>> InputFile(Path("x"), "country=C%C3%B4te/day=1/a.parquet", 0, 0, "").partition()
        {'country': 'Côte', 'day': '1'}
        """
        folders = (part.partition("=") for part in PurePosixPath(self.name).parts[:-1])
        return {
            unquote(key): None if value == _HIVE_NULL else unquote(value)
            for key, equals, value in folders
            if key and equals
        }

    @contextmanager
    def open(self) -> Iterator[pq.ParquetFile]:
        """Open the rows to read a few pages at a time through a small buffer.

        Arrow's default reads whole column chunks, which in a file of one row group are all of its text.

        Raises:
            PromptsError: the file is damaged, or has changed since it was found.
        """
        try:
            with pq.ParquetFile(self._source, pre_buffer=False, buffer_size=_READ_BUFFER_BYTES) as parquet:
                if parquet.metadata.num_rows != self.rows:
                    raise self.changed_error()
                yield parquet
        except (pa.ArrowException, OSError) as error:
            raise PromptsError(
                f"{self.path} cannot be read, it may be damaged: {' '.join(str(error).split())}"
            ) from error

    @property
    def _source(self) -> Path | ParquetReader:
        return self.path if self.text_table is None else self.text_table.open()

    @contextmanager
    def change_check(self) -> Iterator[Callable[[], None]]:
        """A function that checks that the file has kept its size and has not been written since it was found.

        The check looks at the file opened here, not at whatever has its name later: renaming another file to that
        name is harmless, because Arrow goes on reading the open one. Writing into the open file is not harmless, and
        Arrow may not notice it. The copy of a text file stays as it is.

        Raises:
            PromptsError: on entering or when the function is called: the file has changed.
        """
        if self.text_table is not None:
            yield lambda: None
            return

        def check() -> None:
            now = os.fstat(raw.fileno())
            if now.st_size != self.size or (self.modified_ns and now.st_mtime_ns != self.modified_ns):
                raise self.changed_error()

        with self.path.open("rb") as raw:
            check()
            yield check

    def changed_error(self) -> PromptsError:
        """The error for a file that has changed since it was found."""
        return PromptsError(
            f"{self.path} changed while it was read: it had {self.rows} rows in {self.size} bytes. Put it back, or "
            "give what it is now another --run, once nothing writes it."
        )


def find_inputs(pattern: str, *, base: Path) -> list[InputFile]:
    """The files that a pattern matches, sorted by name.

    Args:
        pattern: a file; a folder, which means every `*.parquet` below it, or every CSV and JSON Lines file where there
            is none; or a glob (`**` is any depth).
            Links are followed. Hidden names and names that start with `_` are passed over, except `_key=value`, and
            so are stores; a pattern that leads into one reads it.
        base: the folder that a relative pattern starts from.

    Raises:
        PromptsError: nothing matches, or a file is none that is read, damaged or not readable.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "country=fr").mkdir()
    ...     pq.write_table(pa.table({"text": ["Bonjour"]}), Path(folder) / "country=fr/a.parquet")
    ...     [(file.name, file.rows) for file in find_inputs("**/*.parquet", base=Path(folder))]
    [('country=fr/a.parquet', 1)]
    """
    if not pattern:
        raise PromptsError("prompts.path is empty: name a Parquet, CSV or JSON Lines file, a folder or a glob")
    if _URL.match(pattern):
        raise PromptsError(
            f"prompts.path: {pattern!r} is a URL, and prompts are read from files of this machine only: download it, "
            "and name the file or its folder"
        )
    try:
        root, paths = find_files(Path(pattern).expanduser(), base)
    except RuntimeError as error:
        raise PromptsError(f"prompts.path: {pattern!r}: the home folder is not known: write the whole path") from error
    except (OSError, ValueError) as error:
        raise PromptsError(f"prompts.path: {pattern!r} cannot be looked for in {base}: {error}") from error
    if not paths:
        raise PromptsError(_no_match_message(pattern, base))
    tables = read_text_tables(sorted(filter(is_text_table, paths)))
    return sorted((_inspect(path, root, tables.get(path)) for path in paths), key=lambda file: file.name)


def types_of_text_tables(inputs: Iterable[InputFile]) -> dict[str, str]:
    """The columns of CSV and JSON Lines files, with the types that were found."""
    types: dict[str, str] = {}
    for file in inputs:
        if file.text_table is not None:
            with file.open() as parquet:
                schema = pl.Schema(parquet.schema_arrow)
            types |= {name: str(kind) for name, kind in schema.items() if name not in types}
    return types


def closest_first(wanted: str, names: list[str], *, most: int = _MOST_LISTED) -> str:
    """Names as a list for an error message, the one most like `wanted` first.

    >>> closest_first("txt", ["id", "text"])
    "'text', 'id'"
    """
    ranked = difflib.get_close_matches(wanted, names, n=max(len(names), 1), cutoff=0.0)
    more = f" and {len(ranked) - most} more" if len(ranked) > most else ""
    return ", ".join(map(repr, ranked[:most])) + more


def _no_match_message(pattern: str, base: Path) -> str:
    literal = Path(os.path.normpath(base / Path(pattern).expanduser()))
    if literal.is_dir():
        return f"prompts.path: the folder {literal} holds no Parquet, CSV or JSON Lines file: {_EXPECTED}"
    nearest = next(folder for folder in literal.parents if folder.is_dir())
    wanted = literal.relative_to(nearest).parts[0]
    listed = islice(nearest.iterdir(), 1000)
    names = [path.name + "/" * path.is_dir() for path in listed if not is_hidden(path.name)]
    present = closest_first(wanted, names, most=_MOST_FILES_LISTED) or "nothing"
    return f"prompts.path: nothing matches {pattern!r} (looked for {literal}); {nearest} holds: {present}"


def _inspect(path: Path, root: Path, table: TextTable | None) -> InputFile:
    try:
        with pq.ParquetFile(path if table is None else table.open()) as parquet:
            rows = parquet.metadata.num_rows
        with path.open("rb") as raw:
            modified_ns = os.fstat(raw.fileno()).st_mtime_ns
            digest = hashlib.file_digest(raw, "sha256").hexdigest()
            size = raw.tell()
    except pa.ArrowNotImplementedError as error:
        raise PromptsError(
            f"{path} has a column of a type that cannot be read: {error}. Cast it, or write the file without it."
        ) from error
    except (pa.ArrowException, OSError) as error:
        what = what_it_is(path) or f"{str(error).rstrip('.')}. Write it again, or narrow the path of the prompts"
        if path.suffix.lower() != ".parquet":
            what += f"; {_EXPECTED}"
        raise PromptsError(f"{path} cannot be read as Parquet: {what}") from error
    file = InputFile(path, path.relative_to(root).as_posix(), rows, size, digest, modified_ns, table)
    if table is not None and (table.size, table.modified_ns) != (size, modified_ns):
        raise file.changed_error()
    return file
