"""How a request becomes an answer: `live` asks a server, `replay` looks it up in fixtures.

A transport is one async function from a `Request` to an `Answer`. It makes exactly one attempt and raises
`RetryableError` when another may succeed, `CallError` when not, `StopRunError` when no call of this run can succeed.
Repeating, pacing, caching and parsing are done around it, never in it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from logprob_store.request import Answer, Request

Transport = Callable[[Request], Awaitable[Answer]]

__all__ = ["Transport"]
