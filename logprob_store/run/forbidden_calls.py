"""Status 403: a key that is refused, or one prompt?

Most services mean the key, and every other call would be refused too. Some mean the prompt (a firewall that takes its
text for an attack), and now and then one means nothing at all. If such a prompt stopped the run, it would stop each
later session as well, and those behind it would never be asked.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from logprob_store.errors import CallError

if TYPE_CHECKING:
    from logprob_store.errors import StopRunError

IN_A_ROW: Final = 5
"""Refusals without an answer between them that mean the key."""


class ForbiddenCalls:
    """Makes a refusal the failure of its prompt, as long as the key is known to be good.

    Args:
        any_answer: whether the run has an answer already.

    >>> from logprob_store.errors import StopRunError
    >>> forbidden = ForbiddenCalls()
    >>> refusal = StopRunError("HTTP 403: flagged", reason="authentication", status=403)
    >>> forbidden.failure_of(refusal) is None
    True
    >>> forbidden.answered()
    >>> forbidden.failure_of(refusal).error_type
    'invalid_request'
    """

    def __init__(self, *, any_answer: bool = False) -> None:
        self._any_answer = any_answer
        self._in_a_row = 0

    def answered(self) -> None:
        """Take note of an answer: the key is good."""
        self._any_answer = True
        self._in_a_row = 0

    def failure_of(self, error: StopRunError) -> CallError | None:
        """The failure of the prompt that was refused; None if the refusal is the run's."""
        if error.reason != "authentication" or error.status != HTTPStatus.FORBIDDEN or not self._any_answer:
            return None
        self._in_a_row += 1
        if self._in_a_row >= IN_A_ROW:
            return None
        failure = CallError(error.said, error_type="invalid_request", status=error.status)
        failure.response = error.response
        return failure
