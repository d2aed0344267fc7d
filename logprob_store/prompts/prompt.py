"""What one row asks: its messages and its parameters, or what is wrong with it.

Holds `Prompt` and the way from a row's values to it. Leaves out where the values come from (`values`, `reading`)
and the body that is sent (`request`). What is wrong with a row is that row's `problem`, a failure like any other.
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
from logprob_store.prompts.values import NOT_TEXT, json_value, short

if TYPE_CHECKING:
    from logprob_store.prompts.columns import Columns

Row = Mapping[str, Any]
Messages = list[dict[str, Any]] | str
Ask = Callable[[Row], Messages]

_NO_PARAMS: Final = ("messages", "prompt", "input", "stream")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One row to ask about.

    `index` counts rows over all files in order. `messages` is a list of messages for the chat and responses
    endpoints, text for completions, and None when `problem` says why the row cannot be asked. `candidates` are the
    texts that may follow it, each a call of its own; None where what is asked is the text itself.
    """

    index: int
    id: str
    messages: Messages | None
    params: dict[str, Any]
    problem: PromptError | None
    candidates: Sequence[str] | None = None


def asker(columns: Columns, endpoint: str) -> Ask:
    """The function from the values of a row to what is asked.

    Raises:
        PromptsError: the columns do not suit the endpoint.
    """
    if endpoint != "completions" and columns.continuations is not None:
        raise PromptsError(f"[prompts] continuations go with the completions endpoint, not with {endpoint}")
    if endpoint == "completions" and (columns.messages is not None or columns.system is not None):
        role = "messages" if columns.messages is not None else "system"
        raise PromptsError(
            f"the completions endpoint takes plain text, so [prompts] {role} cannot be sent: "
            "use prompt or template alone, or endpoint chat"
        )
    if columns.messages is not None:
        return partial(_conversation, name=columns.messages, typed=endpoint == "responses")
    system: Callable[[Row], str | None] | None = None
    if columns.template is not None:
        user: Callable[[Row], str] = Template(columns.template).render
        if columns.system is not None:
            system = Template(columns.system).render
    else:
        user = partial(_present, name=columns.prompt or "")
        if columns.system is not None:
            system = itemgetter(columns.system)
    return user if endpoint == "completions" else partial(_chat, system=system, user=user)


def asked(row: Row, params: str | None, ask: Ask) -> tuple[Messages, dict[str, Any]]:
    """What a row asks, and its own parameters from the column `params`.

    Raises:
        PromptError: the row cannot be asked.

    >>> asked({"t": "Hi", "p": '{"seed": 1}'}, "p", itemgetter("t"))
    ('Hi', {'seed': 1})
    """
    for name, value in row.items():
        if value is NOT_TEXT:
            raise PromptError(f"column {name!r} holds bytes that are not UTF-8: write the text as UTF-8")
    return ask(row), {} if params is None or row[params] is None else _params(row[params], params)


def candidates_of(row: Row, name: str | None) -> Sequence[str] | None:
    """The texts in a row's column of continuations; None without such a column.

    Raises:
        PromptError: there are none, or one of them is null or empty, so that there is nothing to score.

    >>> candidates_of({"c": [" yes", " no"]}, "c"), candidates_of({"c": " yes"}, "c")
    ((' yes', ' no'), (' yes',))
    """
    if name is None:
        return None
    value = _present(row, name)
    found = (value,) if isinstance(value, str) else tuple(value)
    if not found:
        raise PromptError(f"column {name!r} holds an empty list: give at least one text, or leave the row out")
    for number, text in enumerate(found):
        if not text:
            what = "null" if text is None else "empty"
            raise PromptError(f"column {name!r}, text {number} is {what}: there is nothing to score")
    return found


def rendered(messages: Messages, candidates: Sequence[str] | None = None) -> str:
    """What was asked as JSON text, for the prompts table: a list of messages, or a JSON string, or an object.

    >>> rendered([{"role": "user", "content": "Hé"}]), rendered("Hé"), rendered("Hé", ["!"])
    ('[{"role":"user","content":"Hé"}]', '"Hé"', '{"context":"Hé","continuations":["!"]}')
    """
    if candidates is None:
        return msgspec.json.encode(messages).decode()
    return msgspec.json.encode({"context": messages, "continuations": candidates}).decode()


def _present(row: Row, name: str) -> Any:
    if row[name] is None:
        raise PromptError(f"column {name!r} is null: fill it, or leave the row out", error_type="null_prompt")
    return row[name]


def _chat(row: Row, system: Callable[[Row], str | None] | None, user: Callable[[Row], str]) -> list[dict[str, Any]]:
    """A user message, after a system message where there is one."""
    instruction = None if system is None else system(row)
    first = [] if instruction is None else [{"role": "system", "content": instruction}]
    return [*first, {"role": "user", "content": user(row)}]


def _conversation(row: Row, name: str, *, typed: bool) -> list[dict[str, Any]]:
    """The messages of a row, checked; `typed` also allows items that have a `type` in place of a `role`."""
    value = _present(row, name)
    messages = json_value(value, name)
    if not isinstance(messages, list) or not messages:
        raise PromptError(f"column {name!r} holds {short(value)}; expected a list of at least one message")
    for number, message in enumerate(messages):
        named = isinstance(message, dict) and (message.get("role") or (typed and message.get("type")))
        if not isinstance(named, str):
            raise PromptError(f"column {name!r}, message {number} is {short(message)}; expected an object with a role")
    return messages


def _params(value: Any, name: str) -> dict[str, Any]:
    params = json_value(value, name)
    if not isinstance(params, dict):
        raise PromptError(f"column {name!r} holds {short(value)}; expected a JSON object of parameters")
    if taken := [key for key in _NO_PARAMS if key in params]:
        raise PromptError(
            f"column {name!r} sets {', '.join(taken)}, which the job itself fills: take it out of the row"
        )
    return params
