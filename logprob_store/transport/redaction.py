"""The API key, kept out of what a server says: `[key]` stands in its place.

Holds the replacing, in bodies, messages and header values. Leaves out what is done with these. Who says a key back is
broken or hostile, and what it says goes into tables, logs and a cache that are passed on to others.
"""

from __future__ import annotations

import logging
from typing import Final

log = logging.getLogger(__name__)

_PLACE: Final = "[key]"
_SHORTEST: Final = 12
"""Characters. What is shorter is no secret but a word for servers that want no key, and may stand in any answer."""


class Redaction:
    """Takes one key out of whatever is said; one that is too short to be a secret stays where it is.

    >>> Redaction("sk-0123456789").text("not with sk-0123456789, please")
    'not with [key], please'
    >>> Redaction("none").text("none of these")
    'none of these'
    """

    def __init__(self, key: str) -> None:
        self._key = key if len(key) >= _SHORTEST else None
        self._raw = key.encode()
        self._has_warned = False

    def text(self, said: str) -> str:
        """A message or a header's value, without the key."""
        return said if self._key is None else said.replace(self._key, _PLACE)

    def refusal(self, body: bytes) -> bytes:
        """The body of a refusal, without the key."""
        return body if self._key is None else body.replace(self._raw, _PLACE.encode())

    def answer(self, body: bytes) -> bytes:
        """The body of an answer, without the key; the first time it had to be taken out, a warning says so."""
        if self._key is None or self._raw not in body:
            return body
        if not self._has_warned:
            self._has_warned = True
            log.warning(
                "the server wrote the API key into an answer: [key] is kept in its place. Look at what stands between "
                "here and the model, and change the key"
            )
        return self.refusal(body)
