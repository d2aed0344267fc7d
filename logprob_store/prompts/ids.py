"""Prompt ids: their text, and the check that none is null and none occurs twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl
import pyarrow as pa

from logprob_store.errors import PromptsError
from logprob_store.prompts.columns import checked_schema
from logprob_store.prompts.scanning import scan_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logprob_store.prompts.columns import Columns
    from logprob_store.prompts.input_files import InputFile
    from logprob_store.prompts.scanning import RowBatch

_BATCH_ROWS: Final = 65_536
_MOST_LISTED: Final = 5
_SECOND_SEED: Final = 1


def check_ids(inputs: Sequence[InputFile], columns: Columns) -> None:
    """Check that no id is null and none occurs twice; without an id column there is nothing to check.

    The first pass keeps a hash of 8 bytes a row. If a hash repeats, a second pass compares another hash, because two
    different ids may share the first, and a third pass reads the few ids that the error names.

    Raises:
        PromptsError: ids are null or repeated; it names up to five of them or of their rows, and their number.
    """
    if columns.id is None or not inputs:
        return
    schema = checked_schema(inputs, [("id", columns.id)])
    hashes, nulls = [pl.Series(dtype=pl.UInt64)], [pl.Series(dtype=pl.Int64)]
    for rows in scan_rows(inputs, schema, batch_rows=_BATCH_ROWS):
        ids = id_texts(rows, columns.id)
        hashes.append(ids.hash())
        nulls.append(null_rows(ids, rows))
    refuse_nulls(pl.concat(nulls), columns.id)
    repeated = pl.concat(hashes).is_duplicated()
    if repeated.any():
        _refuse_repeated(inputs, schema, columns.id, repeated.arg_true())


def id_texts(rows: RowBatch, name: str | None) -> pl.Series:
    """The ids of a batch of rows as text; without an id column, the index of each row over all files.

    Raises:
        PromptsError: an id is not UTF-8, or a time in a zone that is not known.
    """
    if name is None:
        stop = rows.first_index + rows.record_batch.num_rows
        return pl.int_range(rows.first_index, stop, eager=True).cast(pl.String)
    column = rows.record_batch.column(name)
    if isinstance(column.type, pa.UuidType):
        column = pa.array([None if id_ is None else str(id_) for id_ in column.to_pylist()], pa.large_string())
    try:
        text = column.cast(pa.large_string())
    except pa.ArrowInvalid as error:
        raise PromptsError(f"{rows.location}: id column {name!r} ({column.type}) has no text: {error}") from error
    try:
        text.validate(full=True)
    except pa.ArrowInvalid as error:
        raise PromptsError(f"{rows.location}: id column {name!r} holds bytes that are not UTF-8: {error}") from error
    return pl.Series(values=text)


def null_rows(ids: pl.Series, rows: RowBatch) -> pl.Series:
    """The indexes, over all files, of the rows whose id is null."""
    return ids.is_null().arg_true().cast(pl.Int64) + rows.first_index


def refuse_nulls(rows: pl.Series, name: str) -> None:
    """Raise an error if any row has a null id.

    Args:
        rows: the indexes of the rows with a null id.
        name: the id column.

    Raises:
        PromptsError: there are such rows; it names up to five of them.
    """
    if len(rows):
        raise PromptsError(
            f"id column {name!r} is null in {len(rows)} rows (row indexes {_listed(rows)}): give every row an id, "
            "or leave prompts.id out to use the row index"
        )


def _refuse_repeated(inputs: Sequence[InputFile], schema: pa.Schema, name: str, suspects: pl.Series) -> None:
    """Raise an error if ids repeat among `suspects`, the rows whose first hash repeats."""
    second_hashes = pl.concat(
        id_texts(rows, name).hash(_SECOND_SEED) for rows in scan_rows(inputs, schema, batch_rows=_BATCH_ROWS)
    ).gather(suspects)
    repeated = pl.DataFrame({"row": suspects, "hash": second_hashes}).filter(pl.col("hash").is_duplicated())
    if repeated.is_empty():
        return
    count = repeated["hash"].n_unique()
    listed = "; ".join(
        _id_and_rows(inputs, schema, name, repeated.filter(pl.col("hash") == hash_)["row"])
        for hash_ in repeated["hash"].unique(maintain_order=True).head(_MOST_LISTED)
    )
    raise PromptsError(
        f"id column {name!r} has {count} ids that occur more than once: {listed}{'; ...' * (count > _MOST_LISTED)}. "
        "An id names one prompt: make them unique, or leave prompts.id out to use the row index"
    )


def _id_and_rows(inputs: Sequence[InputFile], schema: pa.Schema, name: str, rows: pl.Series) -> str:
    """A repeated id and the first of its rows, for the error message."""
    (batch,) = scan_rows(inputs, schema, skip=rows[0], limit=rows[0] + 1)
    return f"{id_texts(batch, name)[0]!r} in rows {_listed(rows)}"


def _listed(rows: pl.Series) -> str:
    """Up to five rows for an error message, with dots for the others.

    >>> _listed(pl.Series([0, 1, 2, 3, 4, 7]))
    '0, 1, 2, 3, 4, ...'
    """
    return ", ".join(map(str, rows.head(_MOST_LISTED))) + ", ..." * (len(rows) > _MOST_LISTED)
