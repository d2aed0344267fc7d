"""The error that a refusal becomes, and its message."""

from __future__ import annotations

import re

import pytest

from logprob_store.errors import RetryableError
from logprob_store.transport.refusals import error_of_status


def test_insufficient_quota_goes_by_the_code_alone() -> None:
    """Only the code `insufficient_quota` stops a run, because one provider uses the words for a temporary limit."""
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
def test_a_server_s_message_is_one_harmless_line(body: bytes) -> None:
    """Terminal escapes, line breaks and megabytes of it do not reach logs and tables."""
    text = str(error_of_status(400, {}, body))

    assert text.startswith("HTTP 400")
    assert text.isprintable()
    assert len(text) < 1100
    assert not re.search(r"[\x00-\x1f]", text)
