"""The one schema that several files can be read as.

Holds `unified_schema`: which columns there are, partition columns among them, and the type all files agree on. Leaves
out which types a role allows (`columns`) and the casting of values (`scanning`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from logprob_store.errors import PromptsError
from logprob_store.prompts.arrow_types import is_text
from logprob_store.prompts.input_files import closest_first

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from logprob_store.prompts.input_files import InputFile

_PLAIN_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,17}")


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
        with file.open() as parquet:
            own = parquet.schema_arrow
        present = {key: partitions[key] for key in file.partition()} | {field.name: field for field in own}
        for name, use in uses.items():
            if name not in present:
                there = closest_first(name, list(present)) or "none"
                raise PromptsError(f"{file.path} has no column {name!r} ({use}); it has: {there}")
            if len(own.get_all_field_indices(name)) > 1:
                raise PromptsError(f"{file.path} has column {name!r} ({use}) more than once: rename one of them")
            here = _bare(present[name])
            first, field = found.get(name, (file, here))
            found[name] = (first, _common(first, field, file, here))
    return pa.schema([field for _, field in found.values()])


def _partition_types(inputs: Sequence[InputFile]) -> dict[str, pa.Field]:
    """A partition column is Int64 when all its values are integers as `str` writes them ("007" is text)."""
    types: dict[str, pa.Field] = {}
    for file in inputs:
        for key, value in file.partition().items():
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
