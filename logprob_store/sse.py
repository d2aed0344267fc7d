r"""Server-sent events: telling a stream of them from other bodies, and splitting it into the data of its events.

>>> is_event_stream(b'data: {"a": 1}\n\n'), is_event_stream(b'{"a": 1}')
(True, False)
>>> event_data(b': ping\n\nevent: x\ndata: {"a":\ndata: 1}\n\ndata: [DONE]\n\n')
[b'{"a":\n1}', b'[DONE]']
"""

from __future__ import annotations

import re
from typing import Final

DONE: Final = b"[DONE]"
"""The data of the event that ends a stream of chat completions."""

_FIELD: Final = re.compile(rb"\s*(?:data|event|id|retry)?:")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


def is_event_stream(content: bytes) -> bool:
    """Whether a body begins as a stream of events does."""
    return _FIELD.match(content) is not None


def event_data(content: bytes) -> list[bytes]:
    """The data of each event, its lines joined by newlines; events without data and other fields are left out."""
    events: list[bytes] = []
    data: list[bytes] = []
    for line in [*_LINE_END.split(content.strip()), b""]:
        if not line and data:
            events.append(b"\n".join(data))
            data = []
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
    return events
