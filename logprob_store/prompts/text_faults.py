"""Where a CSV or JSON Lines file is wrong, for the error about it: parsers name no line, or their own."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from typing import TYPE_CHECKING, BinaryIO, Final, cast

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_LONGEST_FIELD: Final = 1 << 30


def first_fault(path: Path, *, separator: str | None) -> str | None:
    """The first line of a text file that cannot be read, and why; None if none is found.

    Args:
        path: of the file, packed with gzip or zstd or not.
        separator: between the values of a line of CSV; None for JSON Lines.
    """
    try:
        with _opened(path) as file:
            lines = enumerate(file, 1)
            found = _json_faults(lines) if separator is None else _csv_faults(file, separator)
            return next(found, None)
    except (OSError, EOFError, zstandard.ZstdError):
        return None  # the error of polars says it


def _opened(path: Path) -> BinaryIO:
    name = path.name.lower()
    if name.endswith(".gz"):
        return cast("BinaryIO", gzip.open(path))
    if name.endswith(".zst"):
        return cast("BinaryIO", io.BufferedReader(zstandard.open(path, "rb")))
    return path.open("rb")


def _json_faults(lines: Iterator[tuple[int, bytes]]) -> Iterator[str]:
    for number, line in lines:
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except UnicodeDecodeError:
            yield _no_utf8(number)
        except json.JSONDecodeError as error:
            yield f"line {number} is no JSON ({error.msg})"
        except RecursionError:
            yield f"line {number} is nested too deep"
        else:
            if not isinstance(value, dict):
                yield f"line {number} is no JSON object"


def _csv_faults(file: BinaryIO, separator: str) -> Iterator[str]:
    limit_before = csv.field_size_limit(_LONGEST_FIELD)
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    read: list[str] = []
    rows = csv.reader(_kept(text, read), delimiter=separator)
    width = 0
    line = 1
    try:
        for row in rows:
            width = width or len(row)
            record = "".join(read)
            read.clear()
            if '"' in record and (quoting := _quoting_fault(record, line, separator)) is not None:
                yield quoting
            if len(row) > width:
                yield f"line {line} has {len(row)} values, and the header {width}"
            line = rows.line_num + 1
    except UnicodeDecodeError:
        yield _no_utf8(_lines_of_utf8(file) + 1)
    except csv.Error as error:
        yield f"line {line}: {error}"
    finally:
        csv.field_size_limit(limit_before)


def _kept(lines: Iterable[str], read: list[str]) -> Iterator[str]:
    """The lines; those given out are added to `read`."""
    for line in lines:
        read.append(line)
        yield line


_QUOTED: Final = re.compile('"[^"]*(?:""[^"]*)*"')


def _quoting_fault(record: str, line: int, separator: str) -> str | None:
    """What is wrong with the quotes of a row, None if nothing is.

    >>> _quoting_fault('1,"a ""b"" c",d', 7, ",") is None
    True
    >>> _quoting_fault('1,5" nail', 7, ",")
    'line 7 may have a " within a value that has none around it'
    """
    end = re.escape(separator)
    value = re.compile(rf'(?:{_QUOTED.pattern}|[^"{end}\r\n]*)(?:{end}|[\r\n]+|$)')
    place = 0
    while place < len(record):
        found = value.match(record, place)
        if found is None:
            at = f"line {line + record.count(chr(10), 0, place)}"
            if record[place] != '"':
                if record.count('"') % 2 == 0:  # parsers look for the end of a line behind an even number of them
                    return None
                return f'{at} may have a " within a value that has none around it'
            if _QUOTED.match(record, place) is None:
                return f'{at} opens a " that is never closed'
            return f'{at} has text behind a " that closes a value; a " within one is written twice'
        place = found.end()
    return None


def _lines_of_utf8(file: BinaryIO) -> int:
    """How many lines come before the first that is no UTF-8."""
    file.seek(0)
    for number, line in enumerate(file):
        try:
            line.decode()
        except UnicodeDecodeError:
            return number
    return 0


def _no_utf8(number: int) -> str:
    return f"line {number} is no UTF-8"
