"""Requests that a recording holds: in a pair, in a fixture, or in a Batch API input file.

Requests of input files lie on disk, by custom_id, so that memory does not grow with their number.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from logprob_store.decode.formats.body import loads
from logprob_store.decode.formats.registry import PROMPT_KEYS
from logprob_store.errors import DecodeError, PromptError
from logprob_store.request import PATHS, provider_of, request_key

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUESTIONS: Final = "questions"
"""Beside the Responses API's `input`, this makes a request for decisions."""

_ENDPOINT_BY_PROMPT_FIELD: Final = {
    "messages": "chat",
    "input": "responses",
    "prompt": "completions",
    **PROMPT_KEYS,
}
"""The field of a body that holds the prompt, and the endpoint that has it; a body without any is no usable request."""


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request as it was recorded; only fixtures have `key` and `sample_index`."""

    body: dict[str, Any]
    endpoint: str | None
    provider: str | None = None
    key: str | None = None
    sample_index: int = 0

    @property
    def prompt(self) -> Any:
        """The messages, the text, or whatever else is the prompt; None if there is none."""
        return next((self.body[name] for name in _ENDPOINT_BY_PROMPT_FIELD if name in self.body), None)

    def digest(self, provider: str) -> bytes:
        """16 bytes that identify the request, whatever its sample; `provider` counts where the recording names none.

        Raises:
            PromptError: the body has no canonical form.
        """
        key = request_key(self.body, endpoint=self.endpoint or "", provider=self.provider or provider)
        return bytes.fromhex(key)[:16]


def read_request(value: Any, url: str | None = None) -> RecordedRequest | None:
    """The request in a recorded value: a body, its JSON text, or an object with `body` and `url`; None if it is none.

    >>> read_request({"url": "/v1/chat/completions", "body": {"model": "m", "messages": []}})
    RecordedRequest(body={'model': 'm', 'messages': []}, endpoint='chat', provider=None, key=None, sample_index=0)
    """
    while isinstance(value, str) and value:  # JSON text, also of JSON text
        try:
            value = loads(value.encode(errors="surrogatepass"))
        except DecodeError:
            return None
    if not isinstance(value, dict):
        return None
    field = next((name for name in _ENDPOINT_BY_PROMPT_FIELD if name in value), None)
    if field is None:
        if "body" not in value:
            return None
        own_url = value.get("url", url)
        return read_request(value["body"], own_url if isinstance(own_url, str) else None)
    endpoint, provider = _endpoint_and_provider(url)
    by_field = "decisions" if field == "input" and _QUESTIONS in value else _ENDPOINT_BY_PROMPT_FIELD[field]
    return RecordedRequest(value, endpoint or by_field, provider)


def _endpoint_and_provider(url: str | None) -> tuple[str | None, str | None]:
    """Endpoint and provider of a URL; in the Batch API it is a path alone, which names no provider."""
    if url is None:
        return None, None
    for endpoint, path in PATHS.items():
        base = url.split("?")[0].rstrip("/").removesuffix(path)
        if base != url.split("?")[0].rstrip("/"):
            try:
                return endpoint, provider_of(base) if urlsplit(base).hostname else None
            except ValueError:  # a port or a host that no URL can have
                return endpoint, None
    return None, None


class BatchRequests:
    """The requests of Batch API input files by custom_id, in a temporary database that `close` deletes."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")
        self._database.execute(
            "CREATE TABLE requests (id TEXT, digest BLOB, line BLOB, place INT, PRIMARY KEY (id, digest))"
        )
        self._added = 0

    def add(self, custom_id: str, request: RecordedRequest) -> None:
        """Add a request; an equal one under the same id counts once, and one without a canonical form not at all."""
        try:
            digest = request.digest("")
        except PromptError:
            return
        line = msgspec.json.encode([request.body, request.endpoint])
        self._database.execute(
            "INSERT OR IGNORE INTO requests VALUES (?, ?, ?, ?)", (custom_id, digest, line, self._added)
        )
        self._added += 1

    def get(self, custom_id: str) -> list[RecordedRequest]:
        """The different requests under an id: none, one or several."""
        rows = self._database.execute("SELECT line FROM requests WHERE id = ?", (custom_id,))
        return [RecordedRequest(*msgspec.json.decode(line)) for (line,) in rows]

    def __iter__(self) -> Iterator[tuple[str, RecordedRequest]]:
        """All ids and requests, in the order in which they were added."""
        for custom_id, line in self._database.execute("SELECT id, line FROM requests ORDER BY place"):
            yield custom_id, RecordedRequest(*msgspec.json.decode(line))

    def close(self) -> None:
        """Close and delete the database."""
        self._database.close()
