"""What was asked, where that is known: from a recorded pair, from a fixture, or from a Batch API input file.

Holds `Asked` and the requests of input files by custom_id, kept on disk so that memory does not grow with them. Leaves
out what came back (`records`).
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from logprob_store.decode.formats.registry import PROMPT_KEYS
from logprob_store.errors import PromptError
from logprob_store.request import PATHS, provider_of, request_key

if TYPE_CHECKING:
    from collections.abc import Iterator

_ASKS: Final = {
    "messages": "chat",
    "input": "responses",
    "prompt": "completions",
    **PROMPT_KEYS,
}
"""The part of a body that holds the prompt, to the endpoint; a body without any is none that could be known again."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it was recorded; `key` and `sample_index` only where the recording has them."""

    body: dict[str, Any]
    endpoint: str | None
    provider: str | None = None
    key: str | None = None
    sample_index: int = 0

    @property
    def prompt(self) -> Any:
        """The messages, the text, or what else the prompt is; None if there is none."""
        return next((self.body[name] for name in _ASKS if name in self.body), None)

    def digest(self, provider: str) -> bytes:
        """The identity of what was asked, whatever the sample.

        Raises:
            PromptError: the body has no canonical form.
        """
        key = request_key(self.body, endpoint=self.endpoint or "", provider=self.provider or provider)
        return bytes.fromhex(key)[:16]


def read_asked(value: Any, url: str | None = None) -> Asked | None:
    """What a recorded request asked: a body, its JSON text, or an object with `body` and `url`; None if unclear.

    >>> read_asked({"url": "/v1/chat/completions", "body": {"model": "m", "messages": []}})
    Asked(body={'model': 'm', 'messages': []}, endpoint='chat', provider=None, key=None, sample_index=0)
    """
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError:
            return None
    if not isinstance(value, dict):
        return None
    if "body" in value and not any(name in value for name in _ASKS):
        named = value.get("url", url)
        return read_asked(value["body"], named if isinstance(named, str) else None)
    if not any(name in value for name in _ASKS):
        return None
    endpoint, provider = _of_url(url)
    endpoint = endpoint or next((_ASKS[name] for name in _ASKS if name in value), None)
    return Asked(value, endpoint, provider)


def _of_url(url: str | None) -> tuple[str | None, str | None]:
    """Endpoint and provider; a Batch API url is a path, and names no provider."""
    if url is None:
        return None, None
    for endpoint, path in PATHS.items():
        base = url.split("?")[0].rstrip("/").removesuffix(path)
        if base != url.split("?")[0].rstrip("/"):
            return endpoint, provider_of(base) if urlsplit(base).hostname else None
    return None, None


class BatchInputs:
    """The requests of Batch API input files by custom_id, in a temporary database that goes when it is closed."""

    def __init__(self) -> None:
        self._rows = sqlite3.connect("")
        self._rows.execute("CREATE TABLE asked (id TEXT, digest BLOB, line BLOB, place INT, PRIMARY KEY (id, digest))")
        self.count = 0

    def add(self, custom_id: str, asked: Asked) -> None:
        """Note a request; the same one under the same id counts once."""
        try:
            digest = asked.digest("")
        except PromptError:
            return
        line = msgspec.json.encode([asked.body, asked.endpoint])
        self._rows.execute("INSERT OR IGNORE INTO asked VALUES (?, ?, ?, ?)", (custom_id, digest, line, self.count))
        self.count += 1

    def get(self, custom_id: str) -> list[Asked]:
        """What was asked under an id: nothing, one request, or several that differ."""
        rows = self._rows.execute("SELECT line FROM asked WHERE id = ?", (custom_id,))
        return [Asked(*msgspec.json.decode(line)) for (line,) in rows]

    def __iter__(self) -> Iterator[tuple[str, Asked]]:
        """All of them, in the order in which they were added."""
        for custom_id, line in self._rows.execute("SELECT id, line FROM asked ORDER BY place"):
            yield custom_id, Asked(*msgspec.json.decode(line))

    def close(self) -> None:
        """Let go of the database."""
        self._rows.close()
