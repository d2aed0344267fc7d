"""The prompts of several runs as one table, though each run's kept columns have the types of that run's input.

Columns that runs kept with other types get the common type that holds all values, or else stand under two names.
Columns that polars cannot read as they are, which versions up to 0.1 wrote, are read through Arrow.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from polars.io.plugins import register_io_source

from logprob_store.events import emit
from logprob_store.stored_types import is_stored_as_is, stored_column, stored_field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

_MOST_DIGITS: Final = 38
_INTEGER_DIGITS: Final[dict[type[pl.DataType], int]] = {
    pl.Int8: 3, pl.Int16: 5, pl.Int32: 10, pl.Int64: 19,
    pl.UInt8: 3, pl.UInt16: 5, pl.UInt32: 10, pl.UInt64: 20,
}  # fmt: skip
_TEXTS: Final = (pl.String, pl.Categorical, pl.Enum)
_WITH_TEXT: Final = (*_TEXTS, pl.Boolean)


def scan_prompts(files: Mapping[str, Sequence[Path]]) -> pl.LazyFrame:
    """The prompts of runs, the oldest first, with `run` before their columns.

    Args:
        files: the run's files by its name, at least one of each.
    """
    frames = [_scan_run(run, paths) for run, paths in files.items()]
    if len(frames) == 1:
        return frames[0]
    schemas = [frame.collect_schema() for frame in frames]
    targets = _targets(schemas)
    aligned = [
        frame.select(_as_target(name, kind, *targets[name, kind]) for name, kind in schema.items())
        for frame, schema in zip(frames, schemas, strict=True)
    ]
    return pl.concat(aligned, how="diagonal_relaxed")


def common_type(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    """The type that holds the values of two types, or None.

    Two types of numbers have one (a float, if one of them is a float), two of text, two of times with or without a
    zone, lists and structs of these, and text beside numbers or booleans.

    >>> common_type(pl.Int8(), pl.String()), common_type(pl.List(pl.Int8()), pl.String())
    (String, None)
    """
    kinds = one, other
    if other in (one, pl.Null):
        return one
    if one == pl.Null:
        return other
    if any(kind.is_nested() for kind in kinds):
        return _supertype(one, other) if _fit_together(one, other) else None
    if all(kind.is_numeric() for kind in kinds):
        return _common_number(one, other)
    if any(isinstance(kind, _TEXTS) for kind in kinds):
        return pl.String() if all(kind.is_numeric() or isinstance(kind, _WITH_TEXT) for kind in kinds) else None
    return _common_time(one, other)


def _fit_together(one: pl.DataType, other: pl.DataType) -> bool:
    """Whether lists or structs differ only in the widths of numbers, in nulls, and in fields that one of them lacks."""
    if one in (other, pl.Null) or other == pl.Null:
        return True
    if isinstance(one, (pl.List, pl.Array)) and isinstance(other, (pl.List, pl.Array)):
        return _fit_together(cast("pl.DataType", one.inner), cast("pl.DataType", other.inner))
    if isinstance(one, pl.Struct) and isinstance(other, pl.Struct):
        left, right = pl.Schema(one.to_schema()), pl.Schema(other.to_schema())
        return all(_fit_together(left[name], right[name]) for name in left if name in right)
    return one.is_numeric() and other.is_numeric() and not (one.is_decimal() or other.is_decimal())


def _common_number(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    """The common type of two types of numbers.

    With a decimal and no float it is a decimal wide enough for both, or None beyond 38 digits.
    """
    kinds = one, other
    if any(kind.is_float() for kind in kinds) or not any(kind.is_decimal() for kind in kinds):
        return _supertype(one, other)
    scale = max(kind.scale for kind in kinds if isinstance(kind, pl.Decimal))
    digits = scale + max(
        (kind.precision or _MOST_DIGITS) - kind.scale
        if isinstance(kind, pl.Decimal)
        else _INTEGER_DIGITS.get(kind.base_type(), _MOST_DIGITS + 1)
        for kind in kinds
    )
    return pl.Decimal(digits, scale) if digits <= _MOST_DIGITS else None


def _common_time(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    """The common type of two durations or two timestamps; None for others, and if only one timestamp has a zone.

    Timestamps keep a unit or a zone that both have; otherwise they are in microseconds, or in UTC.
    """
    if isinstance(one, pl.Duration) and isinstance(other, pl.Duration):
        return _supertype(one, other)
    if not (isinstance(one, pl.Datetime) and isinstance(other, pl.Datetime)):
        return None
    if (one.time_zone is None) != (other.time_zone is None):
        return None
    unit = one.time_unit if one.time_unit == other.time_unit else "us"
    return pl.Datetime(unit, one.time_zone if one.time_zone == other.time_zone else "UTC")


def _supertype(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    """The type that polars itself finds, which is what `pl.concat` casts nested columns to."""
    frames = [pl.LazyFrame(schema={"x": kind}) for kind in (one, other)]
    try:
        return pl.concat(frames, how="vertical_relaxed").collect_schema()["x"]
    except pl.exceptions.SchemaError:
        return None


def _scan_run(run: str, files: Sequence[Path]) -> pl.LazyFrame:
    name = pl.lit(run).alias("run")
    try:
        schema = pq.read_schema(files[0])
    except (pa.ArrowException, OSError):
        schema = pa.schema([])  # missing or damaged: polars says so when the rows are read
    if all(is_stored_as_is(field) for field in schema):
        return pl.scan_parquet(list(files), hive_partitioning=False, glob=False).select(name, pl.all())
    _report_left_out(run, schema)
    parts = [_scan_through_arrow(file) for file in files]
    return pl.concat(parts, how="diagonal_relaxed").select(name, pl.all())


def _report_left_out(run: str, schema: pa.Schema) -> None:
    columns = [field.name for field in schema if _stored_or_none(field) is None]
    if columns:
        emit(
            log,
            "column_left_out",
            "run %s: the prompts' column %s cannot be read and is left out; `logprobs verify` says why",
            run,
            ", ".join(map(repr, columns)),
            run=run,
            columns=columns,
        )


def _scan_through_arrow(file: Path) -> pl.LazyFrame:
    """One file, its columns converted as a run converts them now, without those that have no such form."""
    schema = pa.schema([field for field in map(_stored_or_none, pq.read_schema(file)) if field is not None])

    def read(
        columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
        with pq.ParquetFile(file) as parquet:
            table = parquet.read(columns=wanted.names).combine_chunks()
        frame = pl.DataFrame(pa.table([stored_column(_array(table[one.name]), one) for one in wanted], schema=wanted))
        frame = frame if predicate is None else frame.filter(predicate)
        yield frame if n_rows is None else frame.head(n_rows)

    return register_io_source(read, schema=pl.DataFrame(schema.empty_table()).schema, is_pure=True)


def _array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _stored_or_none(field: pa.Field) -> pa.Field | None:
    try:
        return stored_field(field)
    except pa.ArrowNotImplementedError:
        return None


def _targets(schemas: Sequence[pl.Schema]) -> dict[tuple[str, pl.DataType], tuple[str, pl.DataType]]:
    """From a column and its type to the name and the type that it has in the common table.

    Types are grouped from the newest run on: the first group keeps the name, another gets `<name>_as_<type>`.
    """
    kinds: dict[str, list[pl.DataType]] = {}
    for schema in reversed(schemas):
        for name, kind in schema.items():
            if kind not in (known := kinds.setdefault(name, [])):
                known.append(kind)
    targets: dict[tuple[str, pl.DataType], tuple[str, pl.DataType]] = {}
    for name, known in kinds.items():
        groups: list[pl.DataType] = []
        chosen: list[int] = []
        for kind in known:
            number, common = _place(groups, kind)
            groups[number : number + 1] = [common]
            chosen.append(number)
        names = _names(name, groups, taken=set(kinds))
        targets |= {(name, kind): (names[number], groups[number]) for kind, number in zip(known, chosen, strict=True)}
    return targets


def _place(groups: Sequence[pl.DataType], kind: pl.DataType) -> tuple[int, pl.DataType]:
    """The first group that a type can join, and that group's type with it; a new group if there is none."""
    for number, group in enumerate(groups):
        if (common := common_type(group, kind)) is not None:
            return number, common
    return len(groups), kind


def _names(name: str, groups: Sequence[pl.DataType], *, taken: set[str]) -> list[str]:
    names = [name]
    for group in groups[1:]:
        wanted = f"{name}_as_{str(group.base_type()).lower()}"
        number = 2
        while wanted in taken | set(names):
            wanted = f"{name}_as_{str(group.base_type()).lower()}_{number}"
            number += 1
        names.append(wanted)
    return names


def _as_target(name: str, kind: pl.DataType, new_name: str, target: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if kind != target and not target.is_nested():
        column = column.cast(target)
    return column.alias(new_name)
