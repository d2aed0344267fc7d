"""What the columns of a prompts file are for, by their names and types.

A guess is shown and can be replaced; where several columns could be the prompt, there is none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from logprob_store.errors import PromptsError
from logprob_store.prompts.columns import RESERVED_NAMES, Columns, is_list, is_scalar, is_text, kept_schema
from logprob_store.prompts.ids import check_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logprob_store.prompts.input_files import InputFile
    from logprob_store.prompts.overview import FoundColumn

_PROMPT_NAMES: Final = (
    *("prompt", "question", "text", "input", "query", "instruction", "user", "content"),
    *("sentence", "message", "document", "review", "comment", "body", "title"),
)
_MESSAGES_NAMES: Final = ("messages", "conversation", "conversations", "chat", "dialogue", "dialog")
_ID_NAMES: Final = ("id", "promptid", "uid", "uuid", "guid", "key", "index", "rowid")
_ENDS_IN_ID: Final = re.compile(r"(?:^|[^A-Za-z])[iI][dD]$|[a-z]I[dD]$")
_MARKS: Final = re.compile(r"[^a-z0-9]+")


def guess_messages(columns: Sequence[FoundColumn]) -> str | None:
    """The column that holds whole conversations; None where none is called so."""
    holding = [column for column in columns if is_text(column.type) or _is_list_of_objects(column.type)]
    return _first_named(_MESSAGES_NAMES, holding)


def guess_prompt(columns: Sequence[FoundColumn]) -> str | None:
    """The column that holds the prompt: one that is called so, or the only text; None where it could be several.

    >>> import pyarrow as pa
    >>> from logprob_store.prompts.overview import FoundColumn
    >>> text = pa.string()
    >>> guess_prompt([FoundColumn("id", text, ""), FoundColumn("Review Text", text, "")])
    'Review Text'
    >>> guess_prompt([FoundColumn("country", text, ""), FoundColumn("capital", text, "")]) is None
    True
    """
    texts = [column for column in columns if is_text(column.type)]
    if (named := _first_named(_PROMPT_NAMES, texts)) is not None:
        return named
    others = [column.name for column in texts if not _looks_like_id(column.name)]
    ending = [name for name in others if _plain(name).endswith(_PROMPT_NAMES)]
    for found in (others, ending):
        if len(found) == 1:
            return found[0]
    return None


def guess_id(columns: Sequence[FoundColumn], inputs: Sequence[InputFile], *, but: str | None = None) -> str | None:
    """The column that identifies a prompt: one that is called so, has no null and repeats nothing; None without one.

    Args:
        columns: of the files.
        inputs: the files.
        but: the column of the prompts, which is none.
    """
    scalars = [column for column in columns if is_scalar(column.type) and column.name != but]
    named = _first_named(_ID_NAMES, scalars)
    looking = [column.name for column in scalars if _looks_like_id(column.name)]
    for name in dict.fromkeys([*([] if named is None else [named]), *looking]):
        try:
            check_ids(inputs, Columns(id=name, prompt=name))
        except PromptsError:
            continue
        return name
    return None


def columns_to_keep(columns: Sequence[FoundColumn], inputs: Sequence[InputFile], *, used: Sequence[str]) -> list[str]:
    """The columns to store beside the answers: all that the store can hold and that the prompts do not hold already.

    Args:
        columns: of the files.
        inputs: the files.
        used: the columns of the id, the prompt and the messages.
    """
    wanted = [column.name for column in columns if column.name not in {*used, *RESERVED_NAMES}]
    return [name for name in wanted if _can_be_kept(inputs, name)]


def _can_be_kept(inputs: Sequence[InputFile], name: str) -> bool:
    try:
        kept_schema(inputs, Columns(template="-", keep=(name,)))
    except PromptsError:
        return False
    return True


def _is_list_of_objects(kind: pa.DataType) -> bool:
    return is_list(kind) and pa.types.is_struct(kind.value_type)


def _first_named(names: Sequence[str], columns: Sequence[FoundColumn]) -> str | None:
    """The column with the first of these names that there is, but for case and marks between words."""
    by_name = {_plain(column.name): column.name for column in reversed(columns)}
    return next((by_name[name] for name in names if name in by_name), None)


def _looks_like_id(name: str) -> bool:
    r"""Whether a name is that of an id: `id`, `Review ID`, `reviewId`, but not `paid`.

    >>> [name for name in ("id", "Review ID", "reviewId", "review_id", "paid", "guidance") if _looks_like_id(name)]
    ['id', 'Review ID', 'reviewId', 'review_id']
    """
    return _plain(name) in _ID_NAMES or _ENDS_IN_ID.search(name) is not None


def _plain(name: str) -> str:
    return _MARKS.sub("", name.lower())
