"""Status 403: a key that is refused, or one prompt?

Most services mean the key, and every other call would be refused too. Some mean the prompt (a firewall that takes its
text for an attack), and now and then one means nothing at all. If such a prompt stopped the run, it would stop each
later session as well, and those behind it would never be asked. So a refusal is the failure of its prompt, until
several prompts are refused with no answer between them.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from logprob_store.errors import CallError

if TYPE_CHECKING:
    from logprob_store.errors import StopRunError
    from logprob_store.request import Request

IN_A_ROW: Final = 5
"""Different requests that were refused, without an answer between them, that mean the key."""


class ForbiddenCalls:
    """Makes a refusal the failure of its prompt, as long as the key may be good."""

    def __init__(self) -> None:
        self._any_other_outcome = False
        self._in_a_row: set[bytes] = set()  # the bodies of requests: samples of one prompt are one
        self._last: StopRunError | None = None

    @property
    def nothing_else(self) -> StopRunError | None:
        """The last refusal, if no call had another outcome: at the end of few calls, that means the key too."""
        return None if self._any_other_outcome else self._last

    def answered(self) -> None:
        """Take note of an answer: the key is good."""
        self._any_other_outcome = True
        self._in_a_row.clear()

    def failed_otherwise(self) -> None:
        """Take note of another failure, which says nothing about the key."""
        self._any_other_outcome = True

    def failure_of(self, request: Request, error: StopRunError) -> CallError | None:
        """The failure of the prompt that was refused; None if the refusal is the run's."""
        if error.reason != "authentication" or error.status != HTTPStatus.FORBIDDEN:
            return None
        self._in_a_row.add(request.content)
        self._last = error
        if len(self._in_a_row) >= IN_A_ROW:
            return None
        failure = CallError(error.said, error_type="invalid_request", status=error.status)
        failure.response = error.response
        return failure
