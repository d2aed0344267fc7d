"""Chat requests, and fixture files with recorded answers to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from builders import answer_to

from logprob_store.replay.fixtures import Recordings, write_fixtures
from logprob_store.request import Request, make_request

if TYPE_CHECKING:
    from pathlib import Path

PROMPT = "The capital of France is"


def capital_body(text: str = PROMPT, **params: Any) -> dict[str, Any]:
    """The body of a chat request for a capital."""
    return {"model": "m", "messages": [{"role": "user", "content": text}], "temperature": 0, **params}


def capital_request(
    text: str = PROMPT, *, endpoint: str = "chat", provider: str = "p", sample_index: int = 0, **params: Any
) -> Request:
    """A chat request for a capital."""
    return make_request(capital_body(text, **params), endpoint=endpoint, provider=provider, sample_index=sample_index)


def write_recordings(path: Path, *calls: tuple[Request, bytes], content_type: str = "application/json") -> Recordings:
    """Write a fixtures file with an answer to each request, and read it."""
    headers = {"content-type": content_type}
    write_fixtures(path, [answer_to(request, body, headers=headers) for request, body in calls])
    return Recordings(path)
