"""Sample logs of lm-evaluation-harness (`samples_*.jsonl`). They hold no tokens, and the failure says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from logprob_store.importing.exchanges import Exchange
from logprob_store.importing.raw_json import parsed_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from logprob_store.importing.raw_json import RawObject

_PROBLEM: Final = (
    "this is a sample log of lm-evaluation-harness: it has a sum of log-probabilities for each continuation, or a "
    "text, and no tokens. Import the answers of the server, as a proxy or a cassette records them"
)


def recognises(held: Mapping[str, Any]) -> bool:
    """Whether an object is a sample."""
    return "doc_id" in held and "arguments" in held and ("resps" in held or "filtered_resps" in held)


def read(raw: RawObject) -> Iterator[Exchange]:
    """The reason why a sample cannot be imported."""
    yield Exchange(prompt_id=f"{parsed_value(raw, 'doc_id')}", problem=("no_logprobs", _PROBLEM))
