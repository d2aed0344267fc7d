"""Chat requests and fixture files with recorded answers to them, for the tests of this folder.

A fixture with the name of a function of this file returns that function: the tests are no package to import from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from logprob_store.replay.fixtures import Recordings, write_fixtures
from logprob_store.request import Answer, Request, make_request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROMPT = "The capital of France is"


def chat_body(text: str = PROMPT, **params: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": "m", "messages": [{"role": "user", "content": text}], "temperature": 0, **params}


def chat_request(
    text: str = PROMPT, *, endpoint: str = "chat", provider: str = "p", sample_index: int = 0, **params: Any
) -> Request:
    """A chat request."""
    return make_request(chat_body(text, **params), endpoint=endpoint, provider=provider, sample_index=sample_index)


def record(path: Path, *calls: tuple[Request, bytes], content_type: str = "application/json") -> Recordings:
    """Write a fixtures file with an answer to each request, and read it."""
    write_fixtures(path, [Answer(request, 200, {"content-type": content_type}, body, "api") for request, body in calls])
    return Recordings(path)


@pytest.fixture(name="chat_body", scope="session")
def _chat_body() -> Callable[..., dict[str, Any]]:
    """`chat_body`."""
    return chat_body


@pytest.fixture(name="chat_request", scope="session")
def _chat_request() -> Callable[..., Request]:
    """`chat_request`."""
    return chat_request


@pytest.fixture(name="record", scope="session")
def _record() -> Callable[..., Recordings]:
    """`record`."""
    return record
