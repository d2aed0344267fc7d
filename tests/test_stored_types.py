"""Every type of Arrow as a kept column: what the store makes of it, and that polars reads the same values back."""

from __future__ import annotations

import datetime as dt
import io
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from logprob_store.stored_types import is_readable, stored_column, stored_field

DAY = dt.date(2026, 1, 2)
MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=dt.UTC)
WIDE = Decimal(f"{'9' * 60}.25")


def moments(unit: str, zone: str | None) -> pa.Array:
    """2026-01-02 03:04:05 UTC and a null, as Arrow stores moments: counted from 1970 in UTC, whatever the zone."""
    counts = pa.array([MOMENT.replace(microsecond=0, tzinfo=None), None], pa.timestamp("s"))
    return counts.cast(pa.timestamp(unit)).cast(pa.int64()).cast(pa.timestamp(unit, zone))


def extension(kind: pa.DataType, values: list[Any]) -> pa.Array:
    """Values of an extension type, given as those of its storage."""
    return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))


def read_back(column: pa.Array) -> pl.Series:
    """The column as polars reads it from Parquet, after it came from Parquet and was converted for the store."""
    first, second = io.BytesIO(), io.BytesIO()
    pq.write_table(pa.table({"x": column}), first)
    given = pq.read_table(io.BytesIO(first.getvalue()))
    field = stored_field(given.schema.field("x"))
    pq.write_table(pa.table([stored_column(given["x"].chunk(0), field)], schema=pa.schema([field])), second)
    assert is_readable(field.type)
    return pl.read_parquet(second.getvalue())["x"]


NUMBERS = {
    **{kind: (getattr(pa, kind)(), getattr(pl, kind.capitalize())) for kind in ("int8", "int16", "int32", "int64")},
    "uint8": (pa.uint8(), pl.UInt8),
    "uint16": (pa.uint16(), pl.UInt16),
    "uint32": (pa.uint32(), pl.UInt32),
    "uint64": (pa.uint64(), pl.UInt64),
    "float16": (pa.float16(), pl.Float16),
    "float32": (pa.float32(), pl.Float32),
    "float64": (pa.float64(), pl.Float64),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_stored_as_they_are(name: str) -> None:
    """Integers and floats of every width keep it."""
    arrow, polars = NUMBERS[name]

    found = read_back(pa.array([1, None, 100], arrow))

    assert (found.dtype, found.to_list()) == (polars, [1, None, 100])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.decimal32(7, 2), pl.Decimal(7, 2)),
        (pa.decimal64(15, 2), pl.Decimal(15, 2)),
        (pa.decimal128(38, 2), pl.Decimal(38, 2)),
        (pa.decimal256(38, 2), pl.Decimal(38, 2)),
    ],
    ids=str,
)
def test_decimals_of_up_to_38_digits_stay_decimals(kind: pa.DataType, expected: pl.DataType) -> None:
    """However many bits Arrow has for them."""
    found = read_back(pa.array([Decimal("1.50"), None], kind))

    assert (found.dtype, found.to_list()) == (expected, [Decimal("1.50"), None])


def test_decimals_of_more_digits_become_text() -> None:
    """Polars has no decimal of 62 digits; the text has all of them."""
    found = read_back(pa.array([WIDE, None], pa.decimal256(76, 2)))

    assert (found.dtype, found.to_list()) == (pl.String, [str(WIDE), None])


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([True, None]), pl.Boolean),
        (pa.nulls(2), pl.Null),
        (pa.array([DAY, None]), pl.Date),
        (pa.array([DAY, None], pa.date64()), pl.Date),
        *((pa.array([dt.time(3, 4, 5), None], pa.time32(unit)), pl.Time) for unit in ("s", "ms")),
        *((pa.array([dt.time(3, 4, 5), None], pa.time64(unit)), pl.Time) for unit in ("us", "ns")),
        (pa.array([dt.timedelta(days=2), None], pa.duration("s")), pl.Duration("ms")),
        *(
            (pa.array([dt.timedelta(days=2), None], pa.duration(unit)), pl.Duration(unit))
            for unit in ("ms", "us", "ns")
        ),
        *((pa.array([b"\xff\0", None], kind), pl.Binary) for kind in (pa.binary(), pa.large_binary(), pa.binary(2))),
        (pa.array([b"\xff\0", None]).cast(pa.binary_view()), pl.Binary),
        *((pa.array(["é", None], kind), pl.String) for kind in (pa.string(), pa.large_string(), pa.string_view())),
        (pa.array([[1], None], pa.list_(pa.int8())), pl.List(pl.Int8)),
        (pa.array([[1], None], pa.large_list(pa.int8())), pl.List(pl.Int8)),
        (pa.array([[1], None], pa.list_(pa.int8(), 1)), pl.Array(pl.Int8, 1)),
        (pa.array([{"a": 1}, None]), pl.Struct({"a": pl.Int64})),
        (pa.array([1, None]).dictionary_encode(), pl.Int64),
        (pa.array(["a", None]).dictionary_encode(), pl.Categorical),
        (pa.array([b"\xff", None]).dictionary_encode(), pl.Binary),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_types_that_polars_knows_are_stored_as_they_are(column: pa.Array, kind: pl.DataType) -> None:
    """The values that come back are those of the input."""
    found = read_back(column)

    assert (found.dtype, found.to_list()) == (kind, column.to_pylist())


def test_maps_are_stored_as_they_are() -> None:
    """Polars reads a map as a type of its own, whose values Python has as dicts."""
    found = read_back(pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int8())))

    assert found.to_list() == [{"a": 1}, None]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.list_view(pa.int8()), [[1], None, [2, 3], []]),
        (pa.large_list_view(pa.int8()), [[1], None, [2, 3], []]),
    ],
    ids=str,
)
def test_layouts_of_lists_that_polars_does_not_read_become_lists(kind: pa.DataType, values: list[Any]) -> None:
    """Views of lists; lists of the fixed length 0, too, but pyarrow does not read these from Parquet."""
    found = read_back(pa.array(values, kind))

    assert (found.dtype, found.to_list()) == (pl.List(pl.Int8), values)
    assert stored_field(pa.field("x", pa.list_(pa.int8(), 0))).type == pa.list_(pa.int8())


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        (None, None),
        ("UTC", "UTC"),
        ("Europe/Berlin", "Europe/Berlin"),
        ("-08:00", "Etc/GMT+8"),
        ("+05:30", "UTC"),
        ("+0530", "UTC"),
        ("Z", "UTC"),
        ("Mars/Phobos", "UTC"),
    ],
)
def test_a_zone_that_polars_does_not_know_becomes_utc(unit: str, zone: str | None, expected: str | None) -> None:
    """The moment stays the same; zones that polars knows are kept, and timestamps without one have none."""
    found = read_back(moments(unit, zone))

    assert found.dtype == pl.Datetime("ms" if unit == "s" else unit, expected)
    second = MOMENT.replace(microsecond=0)
    assert found.to_list() == [second if zone else second.replace(tzinfo=None), None]


@pytest.mark.parametrize(
    ("column", "kind", "values"),
    [
        (extension(pa.json_(), ['{"a": 1}', None]), pl.String, ['{"a": 1}', None]),
        (extension(pa.uuid(), [b"\0" * 16, None]), pl.Binary, [b"\0" * 16, None]),
        (extension(pa.bool8(), [1, None]), pl.Int8, [1, None]),
        (extension(pa.opaque(pa.string(), "geo", "v"), ["a", None]), pl.String, ["a", None]),
        (
            extension(pa.fixed_shape_tensor(pa.int8(), [2]), [[1, 2], None]),
            pl.Array(pl.Int8, 2),
            [[1, 2], None],
        ),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_extensions_are_stored_as_what_they_are_made_of(column: pa.Array, kind: pl.DataType, values: list[Any]) -> None:
    """JSON is text, a UUID is 16 bytes."""
    found = read_back(column)

    assert (found.dtype, found.to_list()) == (kind, values)


def test_an_extension_that_pyarrow_does_not_know_is_stored_as_what_it_is_made_of() -> None:
    """Of such a type Arrow keeps the name in the metadata, by which polars would make a type of its own."""
    named = {"ARROW:extension:name": "geoarrow.wkb", "ARROW:extension:metadata": "{}", "unit": "m"}
    field = pa.field("x", pa.struct([pa.field("y", pa.binary(), metadata=named)]), metadata=named)

    stored = stored_field(field)

    assert stored.metadata == {b"unit": b"m"}
    assert stored.type.field("y").metadata == {b"unit": b"m"}


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([[1]], pa.list_(pa.int64())).cast(pa.list_(pa.timestamp("us", "+05:30"))), "timestamp[us, tz=UTC]"),
        (pa.StructArray.from_arrays([moments("us", "+05:30")], ["x"]), "timestamp[us, tz=UTC]"),
        (pa.StructArray.from_arrays([extension(pa.json_(), ["1", None])], ["x"]), "string"),
        (pa.array([[("a", WIDE)]], pa.map_(pa.string(), pa.decimal256(76, 2))), "string"),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_types_within_types_are_converted_too(column: pa.Array, kind: str) -> None:
    """In lists, structs and maps."""
    stored = stored_field(pa.field("x", column.type)).type

    assert kind in str(stored)
    assert read_back(column).len() == len(column)


@pytest.mark.parametrize(
    "kind",
    [
        pa.month_day_nano_interval(),
        pa.dense_union([pa.field("a", pa.int8())]),
        pa.sparse_union([pa.field("a", pa.int8())]),
        pa.struct([]),
        pa.struct([("a", pa.int8()), ("a", pa.int8())]),
        pa.list_(pa.list_view(pa.int8())),
    ],
    ids=str,
)
def test_types_that_cannot_be_stored(kind: pa.DataType) -> None:
    """Intervals, unions, structs without fields or with two of one name, and views of lists within other types."""
    with pytest.raises(pa.ArrowNotImplementedError):
        stored_field(pa.field("x", kind))


def test_run_end_encoding_becomes_plain() -> None:
    """Parquet has no such layout; it may come from another source of tables."""
    assert stored_field(pa.field("x", pa.run_end_encoded(pa.int32(), pa.string()))).type == pa.string()


def test_narrow_indices_of_categories_have_room_for_those_of_all_batches() -> None:
    """Pandas writes indices of 8 bits; two files with 100 categories each have 200, and a part joins them."""
    kind = pa.dictionary(pa.int8(), pa.string())
    field = stored_field(pa.field("x", kind))
    batches = [pa.array([f"{file}{number}" for number in range(100)]).cast(kind) for file in "ab"]
    written = io.BytesIO()
    pq.write_table(
        pa.concat_tables(pa.table([stored_column(batch, field)], schema=pa.schema([field])) for batch in batches),
        written,
    )

    assert pl.read_parquet(written.getvalue())["x"].to_list()[150] == "b50"
