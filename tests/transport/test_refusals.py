"""The error that a refusal becomes, and what is shown of the server's words."""

from __future__ import annotations

import re

import pytest

from logprob_store.errors import RetryableError
from logprob_store.transport.refusals import error_of_status


def test_insufficient_quota_goes_by_the_code_alone() -> None:
    """`insufficient_quota` stops the run as a code only: one provider uses the words for a limit that passes."""
    body = b'{"error":{"message":"insufficient_quota for this minute","type":"insufficient_quota","code":"slow_down"}}'

    error = error_of_status(429, {}, body)

    assert isinstance(error, RetryableError)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"plain \x1b[31mtext\xff",
        b'{"error":"\\u001b]0;evil\\u0007\\nsecond line"}',
        b'{"error":[1]}',
        b"[" * 10_000,
        b'{"error":{"message":"' + b"x" * 100_000 + b'"}}',
    ],
    ids=["empty", "bytes", "escapes", "list", "deep", "long"],
)
def test_whatever_the_server_says_is_shown_on_one_harmless_line(body: bytes) -> None:
    """Terminal escapes, line breaks and megabytes of a server's message do not reach logs and tables."""
    text = str(error_of_status(400, {}, body))

    assert text.startswith("HTTP 400")
    assert text.isprintable()
    assert len(text) < 1100
    assert not re.search(r"[\x00-\x1f]", text)
