"""The first calls of a run: if all are refused alike and none is answered, no other will be.

What is wrong with the job (an unknown model, a wrong path, a parameter that the model does not take) is refused for
every prompt; without this, a night would ask them all.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from logprob_store.errors import RetryableError, StopRunError
from logprob_store.failure_policy import FAILURES, concerns_the_prompt

if TYPE_CHECKING:
    from logprob_store.errors import CallError

REFUSED_ALIKE: Final = 5
"""Refusals with one status, from the first call on, that stop a run."""

_REFUSED: Final = range(400, 500)
_NO_ANSWER: Final = frozenset({"malformed_answer", "unknown_encoding"})


class FirstRefusals:
    """Counts the refusals before the first answer of a run.

    Args:
        watch: False for a run that has answers already: its job is one that can be answered.
    """

    def __init__(self, *, watch: bool) -> None:
        self._watch = watch
        self._kind: tuple[str, int | None] | None = None
        self._count = 0

    def answered(self) -> None:
        """Take note of an answer: from now on a refusal concerns its own prompt."""
        self._watch = False

    def failed(self, error: CallError) -> StopRunError | None:
        """Take note of a call that failed; returns the reason to stop, once enough were refused alike."""
        if not self._watch:
            return None
        refused = error.error_type == "invalid_request" and not isinstance(error, RetryableError)
        # A page of HTML in place of an answer: the URL leads to a website, or to a service of another kind.
        is_no_answer = error.error_type in _NO_ANSWER and error.status == HTTPStatus.OK
        if not is_no_answer and (not refused or error.status not in _REFUSED or concerns_the_prompt(str(error))):
            return None
        kind_of_error = error.error_type, error.status
        if self._kind not in {None, kind_of_error}:
            self._watch = False
            return None
        self._kind = kind_of_error
        self._count += 1
        if self._count < REFUSED_ALIKE:
            return None
        kind = FAILURES["all_refused"]
        said = kind.advice.format(count=self._count, where=str(error).rstrip("."))
        return StopRunError(said, reason=kind.name, status=error.status)
