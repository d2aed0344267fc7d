"""The worst case of one call, held back from a budget until the call has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from logprob_store.request import Request
    from logprob_store.usage import Usage


class Holder(Protocol):
    """What settles a reservation: a `Budget`."""

    def call_begins(self, reservation: Reservation) -> None:
        """Record that a reserved call is made now."""

    def answered(self, reservation: Reservation, usage: Usage | None, body: bytes = b"") -> Usage:
        """Settle a call for what its answer took, which is returned."""

    def call_failed(self, reservation: Reservation, error: BaseException | None) -> None:
        """Settle a call that got no answer."""

    def call_repeated(self, reservation: Reservation) -> Reservation:
        """What is held back for a call that is made again, because nobody knows whether it was made."""


class Reservation:
    """The worst case of one call, reserved from `Budget.reserve` until the call's end; a context manager.

    `worst` is what is reserved, `bare` the same without the excess that the server has counted for earlier calls.
    `request` is None for a call of a batch that an earlier session sent; `key` is its key. `state` is `waiting`,
    `reserved`, `begun` or `ended`. `number` is the call's number in the run's record of calls.
    """

    __slots__ = ("_budget", "bare", "key", "number", "request", "state", "worst")

    def __init__(self, budget: Holder, request: Request | None, *, bare: Usage, key: str = "") -> None:
        self._budget = budget
        self.request = request
        self.key = key if request is None else request.key
        self.worst = bare
        self.bare = bare
        self.number: int | None = None
        self.state = "waiting"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            self.failed(error)

    def begin(self) -> int | None:
        """Record that the call is made now; returns its number within the run, None without a record of calls.

        Raises:
            StopRunError: the budget is closed.
            DiskError: the call cannot be recorded.
        """
        self._budget.call_begins(self)
        return self.number

    def answered(self, usage: Usage | None, body: bytes = b"") -> Usage:
        """Settle the call for what its answer took, which is returned.

        Args:
            usage: what the answer reports; None counts as the worst case.
            body: of the answer, which shows whether that can be.
        """
        return self._budget.answered(self, usage, body)

    def failed(self, error: BaseException | None) -> None:
        """Settle the call, which got no answer but this error."""
        self._budget.call_failed(self, error)

    def repeated(self) -> Reservation:
        """A call of its own for the time before, at its worst: this one is made again, and nobody knows of that."""
        return self._budget.call_repeated(self)
