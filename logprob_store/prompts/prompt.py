"""One prompt: the messages and parameters that a row gives, or the reason why the row cannot be asked.

A row that cannot be asked does not stop the job: its prompt has a `problem`, which becomes a failure row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.errors import PromptError, PromptsError
from logprob_store.prompts.template import Template
from logprob_store.prompts.values import Unusable, json_of_text

if TYPE_CHECKING:
    from logprob_store.prompts.columns import Columns

Row = Mapping[str, Any]
Messages = list[dict[str, Any]] | str
MessageBuilder = Callable[[Row], Messages]

_PARAMS_OF_THE_JOB: Final = ("messages", "prompt", "input", "stream")
_EXCERPT_CHARACTERS: Final = 80


@dataclass(frozen=True, slots=True)
class Prompt:
    """One row to ask about.

    `index` counts rows from 0, over all files in order. `messages` is a list of messages for the chat and responses
    endpoints, text for completions, and None when `problem` says why the row cannot be asked. `candidates` are the
    continuations to score, each with a call of its own; None if the job scores no continuations.
    """

    index: int
    id: str
    messages: Messages | None
    params: dict[str, Any]
    problem: PromptError | None
    candidates: Sequence[str] | None = None


def message_builder(columns: Columns, endpoint: str) -> MessageBuilder:
    """The function that makes the messages of a row.

    Raises:
        PromptsError: the columns do not suit the endpoint.
    """
    if endpoint != "completions" and columns.continuations is not None:
        raise PromptsError(f"prompts.continuations go with the completions endpoint, not with {endpoint}")
    if endpoint == "completions" and (columns.messages is not None or columns.system is not None):
        role = "messages" if columns.messages is not None else "system"
        raise PromptsError(
            f"the completions endpoint takes plain text, so prompts.{role} cannot be sent: "
            "use prompt or template alone, or endpoint chat"
        )
    if columns.messages is not None:
        return partial(_messages_of_column, name=columns.messages, allow_type=endpoint == "responses")
    system: Callable[[Row], str | None] | None = None
    if columns.template is not None:
        user: Callable[[Row], str] = Template(columns.template).render
        if columns.system is not None:
            system = Template(columns.system).render
    else:
        user = partial(_value_not_null, name=columns.prompt or "")
        if columns.system is not None:
            system = itemgetter(columns.system)
    return user if endpoint == "completions" else partial(_chat_messages, system=system, user=user)


def check_usable(row: Row) -> None:
    """Check that Python has each value of a row.

    Raises:
        PromptError: a value is `Unusable`.
    """
    for name, value in row.items():
        if isinstance(value, Unusable):
            raise PromptError(f"column {name!r} {value.reason}")


def params_of(row: Row, name: str | None) -> dict[str, Any]:
    """The parameters in column `name` of a row; none without such a column or where it is null.

    Raises:
        PromptError: the value is no JSON object, or it sets a parameter that the job fills.

    >>> params_of({"p": '{"seed": 1}'}, "p")
    {'seed': 1}
    """
    if name is None or row[name] is None:
        return {}
    params = json_value(row[name], name)
    if not isinstance(params, dict):
        raise PromptError(f"column {name!r} holds {_excerpt(row[name])}; expected a JSON object of parameters")
    if taken := [key for key in _PARAMS_OF_THE_JOB if key in params]:
        raise PromptError(
            f"column {name!r} sets {', '.join(taken)}, which the job itself fills: take it out of the row"
        )
    return params


def candidates_of(row: Row, name: str | None) -> Sequence[str] | None:
    """The continuations in column `name` of a row; None without such a column.

    Raises:
        PromptError: the list is null or empty, or a text in it is, so that there is nothing to score.

    >>> candidates_of({"c": [" yes", " no"]}, "c"), candidates_of({"c": " yes"}, "c")
    ((' yes', ' no'), (' yes',))
    """
    if name is None:
        return None
    value = _value_not_null(row, name)
    candidates = (value,) if isinstance(value, str) else tuple(value)
    if not candidates:
        raise PromptError(f"column {name!r} holds an empty list: give at least one text, or leave the row out")
    for number, text in enumerate(candidates):
        if not text:
            what = "null" if text is None else "empty"
            raise PromptError(f"column {name!r}, text {number} is {what}: there is nothing to score")
    return candidates


def prompt_json(messages: Messages, candidates: Sequence[str] | None = None) -> str:
    """A prompt as JSON for the prompts table: a list of messages, a text, or a text and its continuations.

    >>> prompt_json([{"role": "user", "content": "Hé"}]), prompt_json("Hé"), prompt_json("Hé", ["!"])
    ('[{"role":"user","content":"Hé"}]', '"Hé"', '{"context":"Hé","continuations":["!"]}')
    """
    if candidates is None:
        return msgspec.json.encode(messages).decode()
    return msgspec.json.encode({"context": messages, "continuations": candidates}).decode()


def json_value(value: Any, name: str) -> Any:
    """The JSON in a value of column `name`: text is parsed, other values are JSON already.

    Raises:
        PromptError: the text is not JSON.

    >>> json_value('{"seed": null}', "params"), json_value({"seed": 1}, "params")
    ({'seed': None}, {'seed': 1})
    """
    if not isinstance(value, str):
        return value
    try:
        return json_of_text(value)
    except PromptError as error:
        raise PromptError(f"column {name!r} holds {_excerpt(value)}, {error}") from error


def _value_not_null(row: Row, name: str) -> Any:
    if row[name] is None:
        raise PromptError(f"column {name!r} is null: fill it, or leave the row out", error_type="null_prompt")
    return row[name]


def _chat_messages(
    row: Row, system: Callable[[Row], str | None] | None, user: Callable[[Row], str]
) -> list[dict[str, Any]]:
    """A system message if `system` gives one, then a user message."""
    instruction = None if system is None else system(row)
    first = [] if instruction is None else [{"role": "system", "content": instruction}]
    return [*first, {"role": "user", "content": user(row)}]


def _messages_of_column(row: Row, name: str, *, allow_type: bool) -> list[dict[str, Any]]:
    """The messages of a row, checked; with `allow_type`, an item may have a `type` in place of a `role`."""
    value = _value_not_null(row, name)
    messages = json_value(value, name)
    if not isinstance(messages, list) or not messages:
        raise PromptError(f"column {name!r} holds {_excerpt(value)}; expected a list of at least one message")
    for number, message in enumerate(messages):
        role = isinstance(message, dict) and (message.get("role") or (allow_type and message.get("type")))
        if not isinstance(role, str):
            raise PromptError(
                f"column {name!r}, message {number} is {_excerpt(message)}; expected an object with a role"
            )
    return messages


def _excerpt(value: Any) -> str:
    """A value as error messages show it, cut off after 80 characters.

    >>> _excerpt("x" * 100) == "'" + "x" * 79 + "..."
    True
    """
    text = repr(value)
    return text if len(text) <= _EXCERPT_CHARACTERS else text[:_EXCERPT_CHARACTERS] + "..."
