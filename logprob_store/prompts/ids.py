"""The ids of the prompts: their text, and that none is null and none occurs twice.

Holds `check_ids`, and what `reading` needs of it. Leaves out which column the ids are in, and of what type (`columns`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl
import pyarrow as pa

from logprob_store.errors import PromptsError
from logprob_store.prompts.columns import checked_schema
from logprob_store.prompts.scanning import scan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logprob_store.prompts.columns import Columns
    from logprob_store.prompts.input_files import InputFile
    from logprob_store.prompts.scanning import Rows

_BATCH_ROWS: Final = 65_536
_NAMED: Final = 5
_OTHER_SEED: Final = 1


def check_ids(inputs: Sequence[InputFile], columns: Columns) -> None:
    """Make sure that no id is null and none occurs twice; without an id column there is nothing to check.

    One pass keeps 8 bytes of hash a row. Only where a hash repeats, a second pass takes another hash, so that
    two ids are never blamed for sharing one, and a third reads the few texts that the error names.

    Raises:
        PromptsError: names up to five of the ids or rows, and how many there are in all.
    """
    if columns.id is None or not inputs:
        return
    schema = checked_schema(inputs, [("id", columns.id)])
    hashes, nulls = [pl.Series(dtype=pl.UInt64)], [pl.Series(dtype=pl.Int64)]
    for rows in scan(inputs, schema, batch_rows=_BATCH_ROWS):
        ids = id_texts(rows, columns.id)
        hashes.append(ids.hash())
        nulls.append(null_rows(ids, rows))
    refuse_nulls(pl.concat(nulls), columns.id)
    repeated = pl.concat(hashes).is_duplicated()
    if repeated.any():
        _refuse_twins(inputs, schema, columns.id, repeated.arg_true())


def id_texts(rows: Rows, name: str | None) -> pl.Series:
    """The ids of some rows as text; without an id column, the row's index.

    Raises:
        PromptsError: an id is not UTF-8.
    """
    if name is None:
        return pl.int_range(rows.index, rows.index + rows.batch.num_rows, eager=True).cast(pl.String)
    column = rows.batch.column(name)
    if isinstance(column.type, pa.UuidType):
        column = pa.array([None if id_ is None else str(id_) for id_ in column.to_pylist()], pa.large_string())
    text = column.cast(pa.large_string())
    try:
        text.validate(full=True)
    except pa.ArrowInvalid as error:
        raise PromptsError(f"{rows.where}: id column {name!r} holds bytes that are not UTF-8: {error}") from error
    return pl.Series(values=text)


def null_rows(ids: pl.Series, rows: Rows) -> pl.Series:
    """The indexes over all files of the rows whose id is null."""
    return ids.is_null().arg_true().cast(pl.Int64) + rows.index


def refuse_nulls(rows: pl.Series, name: str) -> None:
    """Raise if there are rows whose id is null.

    Raises:
        PromptsError: names up to five of the rows.
    """
    if len(rows):
        raise PromptsError(
            f"id column {name!r} is null in {len(rows)} rows (row indexes {_listed(rows)}): give every row an id, "
            "or leave prompts.id out to use the row index"
        )


def _refuse_twins(inputs: Sequence[InputFile], schema: pa.Schema, name: str, suspects: pl.Series) -> None:
    """Raise for ids that occur twice among the rows whose first hashes do."""
    second = pl.concat(
        id_texts(rows, name).hash(_OTHER_SEED) for rows in scan(inputs, schema, batch_rows=_BATCH_ROWS)
    ).gather(suspects)
    twins = pl.DataFrame({"row": suspects, "hash": second}).filter(pl.col("hash").is_duplicated())
    if twins.is_empty():
        return
    many = twins["hash"].n_unique()
    listed = "; ".join(
        _twin(inputs, schema, name, twins.filter(pl.col("hash") == hash_)["row"])
        for hash_ in twins["hash"].unique(maintain_order=True).head(_NAMED)
    )
    raise PromptsError(
        f"id column {name!r} has {many} ids that occur more than once: {listed}{'; ...' * (many > _NAMED)}. "
        "An id names one prompt: make them unique, or leave prompts.id out to use the row index"
    )


def _twin(inputs: Sequence[InputFile], schema: pa.Schema, name: str, rows: pl.Series) -> str:
    """An id and the first of its rows, for people."""
    (found,) = scan(inputs, schema, skip=rows[0], limit=rows[0] + 1)
    return f"{id_texts(found, name)[0]!r} in rows {_listed(rows)}"


def _listed(rows: pl.Series) -> str:
    """The first rows for people, with dots for the others.

    >>> _listed(pl.Series([0, 1, 2, 3, 4, 7]))
    '0, 1, 2, 3, 4, ...'
    """
    return ", ".join(map(str, rows.head(_NAMED))) + ", ..." * (len(rows) > _NAMED)
