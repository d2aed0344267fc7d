"""The columns that a job reads: their names, the types each may have, and one schema for all files.

A column that is missing or has the wrong type stops the job before it reads a row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa
from pyarrow import types

from logprob_store.errors import PromptsError, TemplateError
from logprob_store.prompts.input_files import closest_first
from logprob_store.prompts.template import Template
from logprob_store.schema import PROMPTS
from logprob_store.stored_types import stored_field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from logprob_store.prompts.input_files import InputFile
    from logprob_store.prompts.questions import QuestionTemplates

RESERVED_NAMES: Final = (*PROMPTS, "run")
_PLAIN_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,17}")

_TEXT: Final = (types.is_string, types.is_large_string, types.is_string_view)
_EXACT: Final = (
    types.is_integer,
    types.is_boolean,
    types.is_decimal,
    types.is_date,
    types.is_time,
    types.is_timestamp,
)
_JSON: Final = (types.is_null, types.is_boolean, types.is_integer, types.is_floating, types.is_decimal)
_LIST: Final = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text, in any encoding: plain, dictionary, view, JSON.

    >>> is_text(pa.dictionary(pa.int8(), pa.string())), is_text(pa.binary())
    (True, False)
    """
    if isinstance(kind, pa.JsonType):
        kind = kind.storage_type
    if types.is_dictionary(kind):
        kind = kind.value_type
    return any(test(kind) for test in _TEXT)


def is_list(kind: pa.DataType) -> bool:
    """Whether a value is a list, in any of Arrow's layouts for lists.

    >>> is_list(pa.large_list(pa.int8())), is_list(pa.map_(pa.string(), pa.int8()))
    (True, False)
    """
    return any(test(kind) for test in _LIST)


def is_scalar(kind: pa.DataType) -> bool:
    """Whether a value is a scalar with exactly one text form; a float has several.

    >>> is_scalar(pa.int8()), is_scalar(pa.float64())
    (True, False)
    """
    return is_text(kind) or isinstance(kind, pa.UuidType) or any(test(kind) for test in _EXACT)


def is_json(kind: pa.DataType) -> bool:
    """Whether every value of this type can be written as JSON.

    >>> is_json(pa.struct({"seed": pa.int64()})), is_json(pa.list_(pa.date32()))
    (True, False)
    """
    if isinstance(kind, pa.BaseExtensionType):
        return isinstance(kind, pa.UuidType) or is_json(kind.storage_type)
    if types.is_struct(kind):
        return all(is_json(field.type) for field in kind)
    if is_list(kind):
        return is_json(kind.value_type)
    return is_text(kind) or any(test(kind) for test in _JSON)


def _is_object(kind: pa.DataType) -> bool:
    """Whether a value can be a JSON object: a struct, or text that is marked as JSON."""
    return isinstance(kind, pa.JsonType) or (types.is_struct(kind) and is_json(kind))


def _holds_objects(kind: pa.DataType) -> bool:
    """Whether a value can be a list of JSON objects, or the text of one."""
    return is_text(kind) or (is_list(kind) and _is_object(kind.value_type))


_TEXT_EXPECTED: Final = "text: cast it, or write it with template"
_OF_TEMPLATES: Final = (
    lambda kind: is_scalar(kind) or types.is_floating(kind),
    "text, a number, a boolean, a date or a time",
)
_ROLE_TYPES: Final[dict[str, tuple[Callable[[pa.DataType], bool], str]]] = {
    "id": (is_scalar, "text, an integer, or another plain value with an exact text (no float, no list)"),
    "prompt": (is_text, _TEXT_EXPECTED),
    "system": (is_text, _TEXT_EXPECTED),
    "messages": (
        _holds_objects,
        "a list of structs of JSON values, or JSON text",
    ),
    "continuations": (
        lambda kind: is_text(kind) or (is_list(kind) and is_text(kind.value_type)),
        "a list of texts, or text",
    ),
    "params": (
        lambda kind: is_text(kind) or _is_object(kind),
        "a struct of JSON values, or JSON text",
    ),
    "questions": (
        _holds_objects,
        "a list of structs of JSON values, or JSON text",
    ),
    "options": (
        lambda kind: is_text(kind) or (is_list(kind) and is_json(kind.value_type)),
        "a list of texts, or JSON text",
    ),
    "template": _OF_TEMPLATES,
    "question": _OF_TEMPLATES,
}
"""For each role, a test of the column's type, and what error messages say is expected. A kept column may have any
type."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What the job file says about the columns: exactly one of `prompt`, `messages` and `template`.

    With `prompt`, `system` is the name of a column; with `template`, it is a template too. `continuations` names a
    column of texts to score as continuations of a plain-text prompt. `questions` names a column of typed questions;
    `question_templates` are those of the job file, which may need columns of their own.

    Raises:
        PromptsError: none or several of the three are given, `system` is given with `messages`, or a kept column has
            a name that the store uses.
        TemplateError: a template is not usable.

    >>> Columns(prompt="text", system="role", keep=("country",)).roles()
    [('prompt', 'text'), ('system', 'role'), ('keep', 'country')]
    """

    id: str | None = None
    prompt: str | None = None
    system: str | None = None
    messages: str | None = None
    template: str | None = None
    params: str | None = None
    continuations: str | None = None
    questions: str | None = None
    question_templates: QuestionTemplates | None = None
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        given = [name for name in ("prompt", "messages", "template") if getattr(self, name) is not None]
        if len(given) != 1:
            raise PromptsError(
                f"prompts has {' and '.join(given) or 'none of prompt, messages, template'}: give exactly "
                "one of prompt (a column of text), messages (a column of message lists), template (text with "
                "{column} in it)"
            )
        if self.messages is not None and self.system is not None:
            raise PromptsError("prompts has system beside messages: put the system message into the messages")
        for name in self.keep:
            if name in RESERVED_NAMES:
                raise PromptsError(
                    f"prompts.keep names {name!r}, which the store's prompts table uses for itself "
                    f"({', '.join(RESERVED_NAMES)}): rename the column in the input, or do not keep it"
                )
        if len(set(self.keep)) < len(self.keep):
            raise PromptsError(f"prompts.keep names a column twice: {', '.join(self.keep)}")
        self.roles()  # parses the templates

    def roles(self) -> list[tuple[str, str]]:
        """Every column that the job reads, as pairs of role and column name."""
        system = self.system if self.template is None else None
        named = {"id": self.id, "prompt": self.prompt, "system": system, "messages": self.messages}
        named |= {"params": self.params, "continuations": self.continuations, "questions": self.questions}
        roles = [(role, name) for role, name in named.items() if name is not None]
        of_template = self._fields("template", self.template)
        of_system = self._fields("system", self.system) if self.template is not None else ()
        roles += [("template", field) for field in dict.fromkeys((*of_template, *of_system))]
        if self.question_templates is not None:
            roles += [role for role in self.question_templates.roles() if role not in roles]
        return roles + [("keep", name) for name in self.keep]

    @staticmethod
    def _fields(key: str, template: str | None) -> tuple[str, ...]:
        """The columns that a template names."""
        try:
            return () if template is None else Template(template).fields
        except TemplateError as error:
            raise TemplateError(f"prompts.{key}: {error}") from error


def columns_sent_as_json(columns: Columns) -> set[str]:
    """The columns whose values are sent as JSON, and not as text."""
    return {name for role, name in columns.roles() if role in {"messages", "params", "questions", "options"}}


def kept_schema(inputs: Sequence[InputFile], columns: Columns) -> pa.Schema:
    """The schema of the kept columns as the store has them, after every check that needs no rows.

    Raises:
        PromptsError: a column is missing, has a type that its role does not allow or that the store cannot hold, or
            has types in two files that cannot be read as one.
    """
    return stored_schema(checked_schema(inputs, columns.roles()), columns, inputs)


def stored_schema(schema: pa.Schema, columns: Columns, inputs: Sequence[InputFile]) -> pa.Schema:
    """The kept columns of a checked schema, as the store has them.

    Raises:
        PromptsError: a column has a type that the store cannot hold.
    """
    fields = []
    for field in map(schema.field, columns.keep):
        try:
            fields.append(stored_field(field))
        except pa.ArrowNotImplementedError as error:
            raise PromptsError(
                f"column {field.name!r} (prompts.keep) is {field.type} in {inputs[0].path} and could not be read back "
                f"from the store: {error}. Cast it to another type, or do not keep it"
            ) from error
    return pa.schema(fields)


def _key_of(role: str) -> str:
    """Where a job file names the columns of a role."""
    return "[[questions]]" if role in {"question", "options"} else f"prompts.{role}"


def checked_schema(inputs: Sequence[InputFile], roles: list[tuple[str, str]]) -> pa.Schema:
    """The columns with the types that all files can be read as; each type is checked against the column's roles.

    Args:
        inputs: the files, at least one.
        roles: pairs of role and column name, as `Columns.roles` returns them.

    Raises:
        PromptsError: as `kept_schema`.
    """
    # Reversed, so that an error names a column with two roles by the first.
    uses = {name: _key_of(role) for role, name in reversed(roles)}
    schema = unified_schema(inputs, uses)
    for role, name in roles:
        kind = schema.field(name).type
        if role in _ROLE_TYPES and not types.is_null(kind) and not _ROLE_TYPES[role][0](kind):
            raise PromptsError(
                f"column {name!r} ({_key_of(role)}) is {kind} in {inputs[0].path}; expected {_ROLE_TYPES[role][1]}"
            )
    return schema


def unified_schema(inputs: Sequence[InputFile], uses: Mapping[str, str]) -> pa.Schema:
    """For each column, the type that all files can be read as; partition columns count as columns.

    Args:
        inputs: the files, at least one.
        uses: from a column's name to what it is used for, which error messages name.

    Raises:
        PromptsError: a file has no such column, has it twice, or has it with a type that contradicts another file's.
    """
    if not inputs:
        raise PromptsError("there are no prompt files to read columns of")
    partitions = _partition_fields(inputs)
    unified: dict[str, tuple[InputFile, pa.Field]] = {}
    for file in inputs:
        with file.open() as parquet:
            stored = parquet.schema_arrow
        fields = {key: partitions[key] for key in file.partition()} | {field.name: field for field in stored}
        for name, use in uses.items():
            if name not in fields:
                present = closest_first(name, list(fields)) or "none"
                raise PromptsError(f"{file.path} has no column {name!r} ({use}); it has: {present}")
            if len(stored.get_all_field_indices(name)) > 1:
                raise PromptsError(f"{file.path} has column {name!r} ({use}) more than once: rename one of them")
            field = _without_field_id(fields[name])
            first_file, known = unified.get(name, (file, field))
            unified[name] = (first_file, _unified_field(first_file, known, file, field))
    return pa.schema([field for _, field in unified.values()])


def _partition_fields(inputs: Sequence[InputFile]) -> dict[str, pa.Field]:
    """A partition column is Int64 when all its values are integers as `str` writes them ("007" is text)."""
    fields: dict[str, pa.Field] = {}
    for file in inputs:
        for key, value in file.partition().items():
            is_integer = value is None or _PLAIN_INTEGER.fullmatch(value) is not None
            known = fields.get(key, pa.field(key, pa.int64()))
            fields[key] = known if is_integer else pa.field(key, pa.string())
    return fields


def _without_field_id(field: pa.Field) -> pa.Field:
    """The field, nullable, without the file's own field number: two files may number the same column differently."""
    metadata = {key: value for key, value in (field.metadata or {}).items() if key != b"PARQUET:field_id"}
    return pa.field(field.name, field.type, metadata=metadata or None)


def _unified_field(first_file: InputFile, known: pa.Field, file: InputFile, field: pa.Field) -> pa.Field:
    """One field that both can be read as.

    Metadata counts: polars keeps an Enum's categories there, and two Enums have the same Arrow type.
    """
    if known.equals(field, check_metadata=True):
        return known
    if is_text(known.type) and is_text(field.type):
        return pa.field(known.name, pa.large_string())
    plain = [pa.schema([one.remove_metadata()]) for one in (known, field)]
    try:
        return pa.unify_schemas(plain, promote_options="permissive").field(0)
    except pa.ArrowException as error:
        raise PromptsError(
            f"column {known.name!r} is {known.type} in {first_file.path} and {field.type} in {file.path}: "
            "cast it to one type in all files"
        ) from error
