"""The decisions API: `{model, answers: [...], usage}`, as OpenAI, SGLang and gateways send it.

Each answer is one to a typed question: a predicate (`probability`), a choice (`choice`, `probabilities`, `confidence`),
a score (`score`, `probabilities`, `confidence`) or a refusal. There is no text and no token.

The logprobs part is the list `answers`, which `decode.decision_rows` reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from logprob_store.decode.formats.base import Choice, Reply
from logprob_store.decode.formats.body import (
    count_or_none,
    kind_of,
    loads_object,
    object_or_empty,
    text_or_none,
    time_or_none,
)
from logprob_store.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Collection

    from logprob_store.request import Answer

NAME: Final = "decisions"

_ANSWERS: Final = "answers"
_OTHER_APIS: Final = frozenset({"choices", "output", "candidates", "results"})


def recognises(keys: Collection[str]) -> bool:
    """Whether a body with these top-level keys holds answers to typed questions."""
    return _ANSWERS in keys and "model" in keys and _OTHER_APIS.isdisjoint(keys)


def read(answer: Answer) -> Reply:
    """Read everything but the answers."""
    body = loads_object(answer.body)
    answers = body[_ANSWERS]
    if isinstance(answers, dict):
        raise DecodeError(
            f"{_ANSWERS}: expected a list, got an object: this is an answer of the System One API, which is not read; "
            "ask the same server at /v1/decisions if it has that",
            error_type="no_decisions",
        )
    if not isinstance(answers, list):
        raise DecodeError(f"{_ANSWERS}: expected a list, got {kind_of(answers)}", error_type="no_decisions")
    usage = object_or_empty(body.get("usage"))
    return Reply(
        response_id=text_or_none(body.get("id")),
        model=text_or_none(body.get("model")),
        created=time_or_none(body.get("created_at", body.get("created"))),
        system_fingerprint=text_or_none(body.get("system_fingerprint")),
        prompt_tokens=count_or_none(usage.get("input_tokens", usage.get("prompt_tokens"))),
        completion_tokens=count_or_none(usage.get("output_tokens", usage.get("completion_tokens"))),
        choices=[Choice(index=0, path=_ANSWERS, decisions=answers)],
        service_tier=text_or_none(body.get("service_tier")),
    )
