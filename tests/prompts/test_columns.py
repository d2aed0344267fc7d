"""What the job file says about columns, and what files' columns cannot be."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from logprob_store.errors import PromptsError, TemplateError
from logprob_store.prompts.batches import read_prompts
from logprob_store.prompts.columns import Columns, kept_schema
from logprob_store.prompts.input_files import InputFile, find_inputs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize(
    ("says", "what"),
    [
        ({}, "none of prompt, messages, template"),
        ({"prompt": "a", "messages": "b"}, "prompt and messages"),
        ({"prompt": "a", "template": "b"}, "prompt and template"),
        ({"messages": "a", "system": "b"}, "system beside messages"),
        ({"prompt": "a", "keep": ("x", "x")}, "keep names a column twice"),
        *(
            ({"prompt": "a", "keep": (name,)}, f"keep names '{name}'")
            for name in ("prompt_id", "prompt_index", "messages", "run")
        ),
    ],
)
def test_columns_that_contradict_are_refused_when_said(says: dict[str, Any], what: str) -> None:
    """Before any file is opened."""
    with pytest.raises(PromptsError, match=what):
        Columns(**says)


@pytest.mark.parametrize("says", [{"template": "{x!r}"}, {"template": "x", "system": "{"}])
def test_templates_are_parsed_when_said(says: dict[str, str]) -> None:
    """Before any file is opened."""
    with pytest.raises(TemplateError):
        Columns(**says)


@pytest.mark.parametrize(
    ("says", "what"),
    [
        ({"prompt": "n"}, r"'n' \(prompts.prompt\) is int64 .*expected text"),
        ({"prompt": "t", "system": "n"}, r"'n' \(prompts.system\) is int64"),
        ({"prompt": "bin"}, r"'bin' \(prompts.prompt\) is binary"),
        ({"prompt": "t", "id": "f"}, r"'f' \(prompts.id\) is double .*expected text, an integer"),
        ({"prompt": "t", "id": "l"}, r"'l' \(prompts.id\) is list"),
        ({"messages": "n"}, r"'n' \(prompts.messages\) is int64 .*expected a list of structs"),
        ({"messages": "l"}, r"'l' \(prompts.messages\) is list<element: int64>"),
        ({"prompt": "t", "params": "n"}, r"'n' \(prompts.params\) is int64 .*expected a struct"),
        ({"prompt": "t", "params": "s"}, r"'s' \(prompts.params\) is struct<at: date32"),
        ({"template": "{l}"}, r"'l' \(prompts.template\) is list"),
        ({"template": "{cuntry}"}, r"no column 'cuntry' \(prompts.template\); it has: 'country'"),
        ({"template": "x", "system": "{nn}"}, r"no column 'nn' \(prompts.template\); it has: 'n'"),
        ({"prompt": "t", "keep": ("x",)}, r"no column 'x' \(prompts.keep\)"),
        ({"prompt": "t", "id": "x"}, r"no column 'x' \(prompts.id\)"),
    ],
)
def test_a_column_that_cannot_have_its_role_is_an_error_before_the_first_row(
    tmp_path: Path, says: dict[str, Any], what: str, put: Callable[..., list[InputFile]]
) -> None:
    """Missing columns and wrong types are named by both calls that come before any request."""
    table = {
        "n": [1],
        "t": ["a"],
        "bin": [b"a"],
        "f": [1.0],
        "l": [[1]],
        "s": [{"at": dt.date(2026, 1, 2)}],
        "country": ["fr"],
    }
    inputs = put(tmp_path, table)

    with pytest.raises(PromptsError, match=what):
        kept_schema(inputs, Columns(**says))
    with pytest.raises(PromptsError, match=what):
        read_prompts(inputs, Columns(**says), endpoint="chat")


def test_a_files_own_field_numbers_are_not_kept(tmp_path: Path) -> None:
    """Spark and Iceberg number fields in metadata; two numberings in one table would contradict."""
    field = pa.field("k", pa.int64(), metadata={"PARQUET:field_id": "7", "unit": "m"})
    pq.write_table(pa.table([["a"], [1]], schema=pa.schema([("t", pa.string()), field])), tmp_path / "a.parquet")

    (found,) = kept_schema(find_inputs("*", base=tmp_path), Columns(prompt="t", keep=("k",)))

    assert found.metadata == {b"unit": b"m"}
