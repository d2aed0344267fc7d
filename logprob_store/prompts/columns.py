"""What the job file says about the columns, and whether the files' columns can be that.

Holds `Columns`, the type that each role needs, and `kept_schema`. Leaves out how files agree on a type (`unifying`)
and what a row asks (`rows`). What is wrong with a column stops the job before it asks anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from logprob_store.errors import PromptsError
from logprob_store.prompts.arrow_types import is_json, is_list, is_plain, is_text
from logprob_store.prompts.template import Template
from logprob_store.prompts.unifying import unified_schema
from logprob_store.schema import PROMPTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from logprob_store.prompts.input_files import InputFile

_TAKEN: Final = (*PROMPTS, "run")
_TEXT: Final = "text: cast it, or write it with template"
_ROLES: Final[dict[str, tuple[Callable[[pa.DataType], bool], str]]] = {
    "id": (is_plain, "text, an integer, or another plain value with an exact text (no float, no list)"),
    "prompt": (is_text, _TEXT),
    "system": (is_text, _TEXT),
    "messages": (
        lambda kind: is_text(kind) or (is_list(kind) and pa.types.is_struct(kind.value_type) and is_json(kind)),
        "a list of structs of JSON values, or JSON text",
    ),
    "continuations": (
        lambda kind: is_text(kind) or (is_list(kind) and is_text(kind.value_type)),
        "a list of texts, or text",
    ),
    "params": (
        lambda kind: is_text(kind) or (pa.types.is_struct(kind) and is_json(kind)),
        "a struct of JSON values, or JSON text",
    ),
    "template": (
        lambda kind: is_plain(kind) or pa.types.is_floating(kind),
        "text, a number, a boolean, a date or a time",
    ),
}
"""A role's test of types, and the words for what passes it. A kept column may have any type."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What the job file says about the columns: exactly one of `prompt`, `messages` and `template`.

    `system` is the name of a column beside `prompt`, and itself a template beside `template`. `continuations` names a
    column of what may follow a plain text, to be scored.

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
    continuations: str | None = None
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
        named |= {"params": self.params, "continuations": self.continuations}
        used = [(role, name) for role, name in named.items() if name is not None]
        texts = (self.template, self.system) if self.template is not None else ()
        fields = (field for text in texts if text is not None for field in Template(text).fields)
        used += [("template", field) for field in dict.fromkeys(fields)]
        return used + [("keep", name) for name in self.keep]


def kept_schema(inputs: Sequence[InputFile], columns: Columns) -> pa.Schema:
    """The schema of the kept columns, after every check of columns that can be made without reading rows.

    Raises:
        PromptsError: a column is missing, of a type its role cannot have, or of types that contradict.
    """
    schema = checked_schema(inputs, columns.used())
    return pa.schema([schema.field(name) for name in columns.keep])


def checked_schema(inputs: Sequence[InputFile], used: list[tuple[str, str]]) -> pa.Schema:
    """The used columns with their common types, each of a type its role can have.

    Args:
        inputs: the files, at least one.
        used: pairs of role and column, as `Columns.used` gives them.

    Raises:
        PromptsError: as `kept_schema`.
    """
    # Reversed, so that a column with two roles is named by the first in an error.
    uses = {name: f"prompts.{role}" for role, name in reversed(used)}
    schema = unified_schema(inputs, uses)
    for role, name in used:
        kind = schema.field(name).type
        if role in _ROLES and not pa.types.is_null(kind) and not _ROLES[role][0](kind):
            raise PromptsError(
                f"column {name!r} (prompts.{role}) is {kind} in {inputs[0].path}; expected {_ROLES[role][1]}"
            )
    return schema
