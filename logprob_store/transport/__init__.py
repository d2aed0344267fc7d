"""One call to a server: `live`. `logprob_store.replay` has transports that look answers up in fixtures.

A transport is an async function from a `Request` to an `Answer`. It makes exactly one attempt. It raises
`RetryableError` when another attempt may succeed, `CallError` when not, and `StopRunError` when no call of this run can
succeed. Repeating, pacing, caching and parsing happen outside of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from logprob_store.request import Answer, Request

Transport = Callable[[Request], Awaitable[Answer]]

__all__ = ["Transport"]
