"""Removal of the API key from what a server sends: `[key]` takes its place.

A server that repeats the key is broken or hostile, and what it sends goes into tables, logs and a cache that may be
passed on to others.
"""

from __future__ import annotations

import logging
from typing import Final

log = logging.getLogger(__name__)

_PLACEHOLDER: Final = "[key]"
_SHORTEST_SECRET: Final = 12
"""Characters. A shorter key is a dummy for servers that need none, and may occur in any answer."""


class Redaction:
    """Removes one key from texts and bodies; a key that is too short to be a secret is left alone.

    >>> Redaction("sk-0123456789").text("not with sk-0123456789, please")
    'not with [key], please'
    >>> Redaction("none").text("none of these")
    'none of these'
    """

    def __init__(self, key: str) -> None:
        self._key = key if len(key) >= _SHORTEST_SECRET else None
        self._raw = key.encode()
        self._has_warned = False

    def text(self, text: str) -> str:
        """A message or a header's value, without the key."""
        return text if self._key is None else text.replace(self._key, _PLACEHOLDER)

    def refusal(self, body: bytes) -> bytes:
        """The body of a refusal, without the key."""
        return body if self._key is None else body.replace(self._raw, _PLACEHOLDER.encode())

    def answer(self, body: bytes) -> bytes:
        """The body of an answer, without the key; logs a warning the first time it contains the key."""
        if self._key is None or self._raw not in body:
            return body
        if not self._has_warned:
            self._has_warned = True
            log.warning(
                "the server wrote the API key into an answer: [key] is kept in its place. Look at what stands between "
                "here and the model, and change the key"
            )
        return self.refusal(body)
