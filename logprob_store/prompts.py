"""Rows of Parquet become prompts: what the columns mean, and everything that can be wrong with them.

Holds `Columns`, `Prompt`, the up-front checks of columns and ids, and `read_prompts`. Leaves out finding and
scanning files (`inputs`), the syntax of templates (`template`), and the body that is sent (`asking`).

What is wrong with a column stops the job before it asks anything; what is wrong with one row is that row's
`problem`, a failure like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
import polars as pl
import pyarrow as pa

from logprob_store.errors import PromptError, PromptsError
from logprob_store.inputs import is_text, scan, unified_schema
from logprob_store.schema import PROMPTS
from logprob_store.template import Template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from logprob_store.inputs import InputFile, Rows

    _Ask = Callable[[Mapping[str, Any]], list[dict[str, Any]] | str]

_TAKEN: Final = (*PROMPTS, "run")
_NO_PARAMS: Final = ("messages", "prompt", "input", "stream")
_ID_ROWS: Final = 65_536
_NAMED: Final = 5
_OTHER_SEED: Final = 1
_SHOWN: Final = 80
_NOT_TEXT: Final = object()


@dataclass(frozen=True, slots=True)
class Columns:
    """What the job file says about the columns: exactly one of `prompt`, `messages` and `template`.

    `system` is the name of a column beside `prompt`, and itself a template beside `template`.

    Raises:
        PromptsError: none or several of the three, `system` beside `messages`, or a kept name that is taken.
        TemplateError: a template is not usable.

    >>> Columns(prompt="text", system="role", keep=("country",)).used()
    [('prompt', 'text'), ('system', 'role'), ('keep', 'country')]
    """

    id: str | None = None
    prompt: str | None = None
    system: str | None = None
    messages: str | None = None
    template: str | None = None
    params: str | None = None
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        given = [name for name in ("prompt", "messages", "template") if getattr(self, name) is not None]
        if len(given) != 1:
            raise PromptsError(
                f"[prompts] says {' and '.join(given) or 'none of prompt, messages, template'}: give exactly "
                "one of prompt (a column of text), messages (a column of message lists), template (text with "
                "{column} in it)"
            )
        if self.messages is not None and self.system is not None:
            raise PromptsError("[prompts] has system beside messages: put the system message into the messages")
        for name in self.keep:
            if name in _TAKEN:
                raise PromptsError(
                    f"[prompts] keep names {name!r}, which the store's prompts table uses for itself "
                    f"({', '.join(_TAKEN)}): rename the column in the input, or do not keep it"
                )
        if len(set(self.keep)) < len(self.keep):
            raise PromptsError(f"[prompts] keep names a column twice: {', '.join(self.keep)}")
        self.used()  # parses the templates

    def used(self) -> list[tuple[str, str]]:
        """Every column the job reads, as pairs of its role and its name."""
        system = self.system if self.template is None else None
        named = {"id": self.id, "prompt": self.prompt, "system": system, "messages": self.messages}
        used = [(role, name) for role, name in (named | {"params": self.params}).items() if name is not None]
        texts = (self.template, self.system) if self.template is not None else ()
        fields = (field for text in texts if text is not None for field in Template(text).fields)
        used += [("template", field) for field in dict.fromkeys(fields)]
        return used + [("keep", name) for name in self.keep]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One row to ask about.

    `index` counts rows over all files in order. `messages` is a list of messages for the chat and responses
    endpoints, text for completions, and None when `problem` says why the row cannot be asked.
    """

    index: int
    id: str
    messages: list[dict[str, Any]] | str | None
    params: dict[str, Any]
    problem: PromptError | None


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """Consecutive prompts of one file, and the kept columns of the same rows, in the input's types."""

    prompts: list[Prompt]
    kept: pa.Table


def kept_schema(inputs: Sequence[InputFile], columns: Columns) -> pa.Schema:
    """The schema of the kept columns, after every check of columns that can be made without reading rows.

    Raises:
        PromptsError: a column is missing, of a type its role cannot have, or of types that contradict.
    """
    schema = _checked(inputs, columns.used())
    return pa.schema([schema.field(name) for name in columns.keep])


def read_prompts(
    inputs: Sequence[InputFile],
    columns: Columns,
    *,
    endpoint: str,
    skip: int = 0,
    limit: int | None = None,
    batch_rows: int = 1000,
) -> Iterator[PromptBatch]:
    """The prompts with `skip <= index < limit`, at most `batch_rows` at a time.

    Args:
        inputs: what `find_inputs` found.
        columns: what the columns mean.
        endpoint: chat, responses or completions.
        skip: rows to pass over; whole files and row groups of them are not read.
        limit: the index to stop before, counted from row 0 whatever `skip` is.
        batch_rows: what bounds the memory; a batch never spans two files.

    Raises:
        PromptsError: as `kept_schema`; or the columns do not suit the endpoint; or, while reading, a file is
            damaged, an id is null, or a kept text is not UTF-8.

    >>> import tempfile, pyarrow.parquet as pq
    >>> from pathlib import Path
    >>> from logprob_store.inputs import find_inputs
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pq.write_table(pa.table({"country": ["France", None]}), Path(folder) / "a.parquet")
    ...     asked = Columns(template="Capital of {country}?")
    ...     found = find_inputs("*.parquet", base=Path(folder))
    ...     (batch,) = read_prompts(found, asked, endpoint="chat")
    >>> [(prompt.id, prompt.messages) for prompt in batch.prompts]
    [('0', [{'role': 'user', 'content': 'Capital of France?'}]), ('1', None)]
    >>> batch.prompts[1].problem.error_type
    'null_prompt'
    """
    ask = _asker(columns, endpoint)
    schema = _checked(inputs, columns.used())
    # Not `yield`, so that the checks above run now and not at the first row.
    return (_batch(rows, columns, ask) for rows in scan(inputs, schema, skip=skip, limit=limit, batch_rows=batch_rows))


def check_ids(inputs: Sequence[InputFile], columns: Columns) -> None:
    """Make sure that no id is null and none occurs twice; without an id column there is nothing to check.

    One pass keeps 8 bytes of hash a row. Only where a hash repeats, a second pass takes another hash, so that
    two ids are never blamed for sharing one, and a third reads the few texts that the error names.

    Raises:
        PromptsError: names up to five of the ids or rows, and how many there are in all.
    """
    if columns.id is None or not inputs:
        return
    schema = _checked(inputs, [("id", columns.id)])
    hashes, nulls = [pl.Series(dtype=pl.UInt64)], [pl.Series(dtype=pl.Int64)]
    for rows in scan(inputs, schema, batch_rows=_ID_ROWS):
        ids = _id_series(rows, columns.id)
        hashes.append(ids.hash())
        nulls.append(ids.is_null().arg_true().cast(pl.Int64) + rows.index)
    _no_nulls(pl.concat(nulls), columns.id)
    repeated = pl.concat(hashes).is_duplicated()
    if repeated.any():
        _no_twins(inputs, schema, columns.id, repeated.arg_true())


def rendered(messages: list[dict[str, Any]] | str) -> str:
    """What was asked as JSON text, for the prompts table: a list of messages, or a JSON string.

    >>> rendered([{"role": "user", "content": "Hé"}]), rendered("Hé")
    ('[{"role":"user","content":"Hé"}]', '"Hé"')
    """
    return msgspec.json.encode(messages).decode()


def _checked(inputs: Sequence[InputFile], used: list[tuple[str, str]]) -> pa.Schema:
    """The used columns with their common types, each of a type its role can have."""
    # Reversed, so that a column with two roles is named by the first in an error.
    names = {name: f"prompts.{role}" for role, name in reversed(used)}
    schema = unified_schema(inputs, names)
    for role, name in used:
        kind = schema.field(name).type
        if role in _ROLES and not pa.types.is_null(kind) and not _ROLES[role][0](kind):
            raise PromptsError(
                f"column {name!r} (prompts.{role}) is {kind} in {inputs[0].path}; expected {_ROLES[role][1]}"
            )
    return schema


def _is_plain(kind: pa.DataType) -> bool:
    """Whether a value is one thing that has one obvious text."""
    types = pa.types
    tests = (
        types.is_integer,
        types.is_boolean,
        types.is_decimal,
        types.is_date,
        types.is_time,
        types.is_timestamp,
    )
    return is_text(kind) or isinstance(kind, pa.UuidType) or any(test(kind) for test in tests)


def _is_json(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_struct(kind):
        return all(_is_json(field.type) for field in kind)
    if _is_list(kind):
        return _is_json(kind.value_type)
    tests = (types.is_null, types.is_boolean, types.is_integer, types.is_floating, types.is_decimal, is_text)
    return any(test(kind) for test in tests)


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    tests = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view)
    return any(test(kind) for test in tests)


_ROLES: Final[dict[str, tuple[Callable[[pa.DataType], bool], str]]] = {
    "id": (_is_plain, "text, an integer, or another plain value with an exact text (no float, no list)"),
    "prompt": (is_text, "text: cast it, or write it with template"),
    "system": (is_text, "text: cast it, or write it with template"),
    "messages": (
        lambda kind: is_text(kind) or (_is_list(kind) and pa.types.is_struct(kind.value_type) and _is_json(kind)),
        "a list of structs of JSON values, or JSON text",
    ),
    "params": (
        lambda kind: is_text(kind) or (pa.types.is_struct(kind) and _is_json(kind)),
        "a struct of JSON values, or JSON text",
    ),
    "template": (
        lambda kind: _is_plain(kind) or pa.types.is_floating(kind),
        "text, a number, a boolean, a date or a time",
    ),
}


def _asker(columns: Columns, endpoint: str) -> _Ask:
    """From the values of a row to what is asked."""
    if endpoint == "completions" and (columns.messages is not None or columns.system is not None):
        role = "messages" if columns.messages is not None else "system"
        raise PromptsError(
            f"the completions endpoint takes plain text, so [prompts] {role} cannot be sent: "
            "use prompt or template alone, or endpoint chat"
        )
    if columns.messages is not None:
        return partial(_conversation, name=columns.messages, typed=endpoint == "responses")
    if columns.template is not None:
        ask: Callable[[Mapping[str, Any]], str] = Template(columns.template).render
        tell: Callable[[Mapping[str, Any]], str | None] = (
            partial(_optional, name=None) if columns.system is None else Template(columns.system).render
        )
    else:
        ask = partial(_present, name=columns.prompt or "")
        tell = partial(_optional, name=columns.system)
    if endpoint == "completions":
        return ask

    def chat(row: Mapping[str, Any]) -> list[dict[str, Any]]:
        system, user = tell(row), ask(row)
        first = [] if system is None else [{"role": "system", "content": system}]
        return [*first, {"role": "user", "content": user}]

    return chat


def _present(row: Mapping[str, Any], name: str) -> Any:
    if row[name] is None:
        raise PromptError(f"column {name!r} is null: fill it, or leave the row out", error_type="null_prompt")
    return row[name]


def _optional(row: Mapping[str, Any], name: str | None) -> Any:
    return None if name is None else row[name]


def _conversation(row: Mapping[str, Any], name: str, *, typed: bool) -> list[dict[str, Any]]:
    """The messages of a row, checked; `typed` also allows items that have a `type` in place of a `role`."""
    value = _present(row, name)
    messages = _parsed(value, name) if isinstance(value, str) else _without_nulls(value)
    if not isinstance(messages, list) or not messages:
        raise PromptError(f"column {name!r} holds {_short(value)}; expected a list of at least one message")
    for number, message in enumerate(messages):
        named = isinstance(message, dict) and (message.get("role") or (typed and message.get("type")))
        if not isinstance(named, str):
            raise PromptError(f"column {name!r}, message {number} is {_short(message)}; expected an object with a role")
    return messages


def _params(row: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    value = _optional(row, name)
    if value is None:
        return {}
    params = _parsed(value, name) if isinstance(value, str) else _without_nulls(value)
    if not isinstance(params, dict):
        raise PromptError(f"column {name!r} holds {_short(value)}; expected a JSON object of parameters")
    if taken := [key for key in _NO_PARAMS if key in params]:
        raise PromptError(
            f"column {name!r} sets {', '.join(taken)}, which the job itself fills: take it out of the row"
        )
    return params


def _parsed(text: str, name: str | None) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise PromptError(f"column {name!r} holds {_short(text)}, which is not JSON: {error}") from error


def _without_nulls(value: Any) -> Any:
    """A struct's value as JSON: a struct has all its fields in every row, so null means not given."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _batch(rows: Rows, columns: Columns, ask: _Ask) -> PromptBatch:
    kept = _kept(rows, columns.keep)
    ids = _id_series(rows, columns.id)
    if columns.id is not None:
        _no_nulls(ids.is_null().arg_true().cast(pl.Int64) + rows.index, columns.id)
    used = dict.fromkeys(name for role, name in columns.used() if role not in {"id", "keep"})
    values = [_values(rows.batch.column(name)) for name in used]
    prompts = []
    for number, (id_, *row) in enumerate(zip(ids.to_list(), *values, strict=True)):
        try:
            messages, params = _asked(dict(zip(used, row, strict=True)), columns.params, ask)
            prompt = Prompt(rows.index + number, id_, messages, params, None)
        except PromptError as error:
            where = f"{rows.file.name}, row {rows.row + number}"
            problem = PromptError(f"{where}: {error}", error_type=error.error_type)
            prompt = Prompt(rows.index + number, id_, None, {}, problem)
        prompts.append(prompt)
    return PromptBatch(prompts, kept)


def _asked(row: Mapping[str, Any], params: str | None, ask: _Ask) -> tuple[list[dict[str, Any]] | str, dict[str, Any]]:
    _all_readable(row)
    return ask(row), _params(row, params)


def _all_readable(row: Mapping[str, Any]) -> None:
    for name, value in row.items():
        if value is _NOT_TEXT:
            raise PromptError(f"column {name!r} holds bytes that are not UTF-8: write the text as UTF-8")


def _values(column: pa.Array) -> list[Any]:
    """A column as Python values, with a marker where text is not UTF-8."""
    types, kind = pa.types, column.type
    if types.is_floating(kind) and not types.is_float64(kind):
        # By way of text: the float32 that is written 0.1 is 0.10000000149011612 as a float64.
        column = column.cast(pa.string()).cast(pa.float64())
    elif (types.is_timestamp(kind) or types.is_time64(kind)) and kind.unit == "ns":
        # Python's times have microseconds; finer digits are cut off.
        to = pa.timestamp("us", kind.tz) if types.is_timestamp(kind) else pa.time64("us")
        column = column.cast(to, safe=False)
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        values = [_value(scalar) for scalar in column]
    return values


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return _NOT_TEXT


def _kept(rows: Rows, names: tuple[str, ...]) -> pa.Table:
    for name in names:
        try:
            rows.batch.column(name).validate(full=True)
        except pa.ArrowInvalid as error:
            last = rows.row + rows.batch.num_rows - 1
            raise PromptsError(
                f"{rows.file.path}, rows {rows.row} to {last}: column {name!r} cannot be kept: {error}. "
                "Write its text as UTF-8, or do not keep it."
            ) from error
    return pa.Table.from_batches([rows.batch.select(list(names))])


def _id_series(rows: Rows, name: str | None) -> pl.Series:
    """The ids of some rows as text; without an id column, the row's index."""
    if name is None:
        return pl.int_range(rows.index, rows.index + rows.batch.num_rows, eager=True).cast(pl.String)
    column = rows.batch.column(name)
    if isinstance(column.type, pa.UuidType):
        column = pa.array([None if id_ is None else str(id_) for id_ in column.to_pylist()], pa.large_string())
    text = column.cast(pa.large_string())
    try:
        text.validate(full=True)
    except pa.ArrowInvalid as error:
        last = rows.row + len(text) - 1
        raise PromptsError(
            f"{rows.file.path}, rows {rows.row} to {last}: id column {name!r} holds bytes that are not UTF-8: {error}"
        ) from error
    return pl.Series(values=text)


def _no_nulls(rows: pl.Series, name: str) -> None:
    if len(rows):
        listed = ", ".join(map(str, rows.head(_NAMED)))
        raise PromptsError(
            f"id column {name!r} is null in {len(rows)} rows (row indexes {listed}"
            f"{', ...' * (len(rows) > _NAMED)}): give every row an id, or leave prompts.id out to use the "
            "row index"
        )


def _no_twins(inputs: Sequence[InputFile], schema: pa.Schema, name: str, suspects: pl.Series) -> None:
    """Raise for ids that occur twice among the rows whose first hashes do."""
    second = pl.concat(
        _id_series(rows, name).hash(_OTHER_SEED) for rows in scan(inputs, schema, batch_rows=_ID_ROWS)
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
    listed = ", ".join(map(str, rows.head(_NAMED)))
    return f"{_id_series(found, name)[0]!r} in rows {listed}{', ...' * (len(rows) > _NAMED)}"
