"""Where a CSV or JSON Lines file is wrong, for the error about it: parsers name no line, or their own."""

from __future__ import annotations

import csv
import gzip
import io
import json
from typing import TYPE_CHECKING, BinaryIO, Final, cast

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterator
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
    rows = csv.reader(text, delimiter=separator)
    width = 0
    line = 1
    try:
        for row in rows:
            width = width or len(row)
            if len(row) > width:
                yield f"line {line} has {len(row)} values, and the header {width}"
            if any('"' in value and not value.startswith('"') for value in row):
                yield f'line {line} may have a " within a value that has none around it'
            line = rows.line_num + 1
    except UnicodeDecodeError:
        yield _no_utf8(_lines_of_utf8(file) + 1)
    except csv.Error as error:
        yield f"line {line}: {error}"
    finally:
        csv.field_size_limit(limit_before)


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
