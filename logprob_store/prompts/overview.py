"""What a person sees of prompts before there is a job: the columns, their types, and the first row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from logprob_store.errors import PromptsError
from logprob_store.prompts.columns import is_text, unified_schema
from logprob_store.prompts.scanning import scan_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from logprob_store.prompts.input_files import InputFile


@dataclass(frozen=True, slots=True)
class FoundColumn:
    """A column that all files have: its name, its type, and its value in the first row."""

    name: str
    type: pa.DataType
    first: Any

    @property
    def type_name(self) -> str:
        """The type in a few letters.

        >>> import pyarrow as pa
        >>> [FoundColumn("", kind, None).type_name for kind in (pa.large_string(), pa.large_list(pa.float64()))]
        ['text', 'list<double>']
        """
        name = str(self.type).replace("large_", "").replace("element: ", "").replace("item: ", "")
        return "text" if is_text(self.type) else name


def found_columns(inputs: Sequence[InputFile]) -> list[FoundColumn]:
    """The columns that all files have, partition columns included, in the order of the first file.

    Args:
        inputs: the files, as `find_inputs` returns them, at least one.

    Raises:
        PromptsError: a file cannot be read, they have no column in common, or one has types that contradict each other.
    """
    names: dict[str, str] = {}
    for number, file in enumerate(inputs):
        with file.open() as parquet:
            present = [*parquet.schema_arrow.names, *file.partition()]
        names = {name: "found" for name in present if not number or name in names}
    if not names:
        raise PromptsError(
            f"{inputs[0].path} and the other {len(inputs) - 1} files have no column in common: narrow the path of the "
            "prompts"
        )
    schema = unified_schema(inputs, names)
    rows = next(scan_rows(inputs, schema, limit=1), None)
    first = {} if rows is None else rows.record_batch.to_pylist()[0]
    return [FoundColumn(field.name, field.type, first.get(field.name)) for field in schema]
