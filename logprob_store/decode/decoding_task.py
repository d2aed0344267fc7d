"""One choice of an answer on its way to the tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logprob_store.decode.formats.base import Choice, Reply
    from logprob_store.request import Answer


@dataclass(frozen=True, slots=True)
class DecodingTask:
    """A choice to decode, the reply that holds it, and its answer, whose place among all answers is `answer_index`."""

    answer_index: int
    answer: Answer
    reply: Reply
    choice: Choice
    completion_id: int
