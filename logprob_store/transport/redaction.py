"""Removal of the API key, and of other secrets, from what a server sends: `[key]` takes their place.

A server that repeats a key is broken or hostile, and what it sends goes into tables, logs and a cache that may be
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
    """Removes keys from texts and bodies; a key that is too short to be a secret is left alone.

    >>> Redaction("sk-0123456789").text("not with sk-0123456789, please")
    'not with [key], please'
    >>> Redaction("none").text("none of these")
    'none of these'
    """

    def __init__(self, *keys: str) -> None:
        # The longest first, as one key may be a part of another.
        self._keys = sorted((key for key in keys if len(key) >= _SHORTEST_SECRET), key=len, reverse=True)
        self._raw = [key.encode() for key in self._keys]
        self._has_warned = False

    def text(self, text: str) -> str:
        """A message or a header's value, without the key."""
        for key in self._keys:
            text = text.replace(key, _PLACEHOLDER)
        return text

    def refusal(self, body: bytes) -> bytes:
        """The body of a refusal, without the key."""
        for key in self._raw:
            body = body.replace(key, _PLACEHOLDER.encode())
        return body

    def answer(self, body: bytes) -> bytes:
        """The body of an answer, without the key; logs a warning the first time it contains the key."""
        if not any(key in body for key in self._raw):
            return body
        if not self._has_warned:
            self._has_warned = True
            log.warning(
                "the server wrote the API key into an answer: [key] is kept in its place. Look at what stands between "
                "here and the model, and change the key"
            )
        return self.refusal(body)
