"""A choice of chat completions or completions without the body around it, as programs save it that keep only that.

The logprobs part is that of the choice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from logprob_store.decode.formats import choices
from logprob_store.decode.formats.body import without_bom

if TYPE_CHECKING:
    from collections.abc import Collection

    from logprob_store.decode.formats.base import Reply
    from logprob_store.request import Answer

NAME: Final = "bare_choice"


def recognises(keys: Collection[str]) -> bool:
    """Whether an object with these keys is a choice."""
    return "choices" not in keys and {"finish_reason", "index", "logprobs"} <= set(keys) and not _TEXTS.isdisjoint(keys)


_TEXTS: Final = frozenset({"message", "text"})


def read(answer: Answer) -> Reply:
    """Read everything but the tokens."""
    return choices.read(replace(answer, body=b'{"choices":[' + without_bom(answer.body) + b"]}"))
