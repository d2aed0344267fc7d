"""Which headers of an answer are kept: in the cache, and in recordings, which are committed and shared.

All others are dropped: cookies, rate limits, and what names an account, an organisation or a machine on the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

RECORDED: Final = ("content-type", "retry-after", "retry-after-ms", "x-should-retry")
"""What a client acts on. None of them names a person, an account or a machine; `retry-after` may be a date."""

CACHED: Final = (*RECORDED, "date", "server", "x-request-id", "openai-processing-ms")
"""The cache stays on this machine: also what a question to the service's support needs."""


def kept(headers: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """The headers with these names, in lower case.

    >>> kept({"content-type": "application/json", "set-cookie": "a=b"}, RECORDED)
    {'content-type': 'application/json'}
    """
    return {name: headers[name] for name in names if name in headers}
