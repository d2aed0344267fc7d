"""`Slot`: the place at the server that a call holds while it is under way.

When a call may start is decided by `pacer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from logprob_store.request import Request
    from logprob_store.usage import ServerReport


class Gate(Protocol):
    """Lets calls start, and learns how they end; `Pacer` is one."""

    async def begin(self, slot: Slot) -> None:
        """Wait until the call may start."""

    def end(self, slot: Slot, error: BaseException | None) -> None:
        """Take note of how the call ended."""


class Slot:
    """A call's place at the server: `async with pacer.slot(request) as slot` holds it while the call is under way.

    Report an answer with `answered`; a failure is seen by the context manager. After the end, `counts_as_attempt` says
    whether the call was an attempt: during an outage it is none.

    Args:
        gate: lets the call start.
        request: the request of the call.
        estimate: tokens that the call is likely to take.
        again: whether an earlier call for the request failed.
    """

    __slots__ = (
        "_gate",
        "again",
        "counts_as_attempt",
        "estimate",
        "is_probe",
        "report",
        "request",
        "started_at",
        "unused",
    )

    def __init__(self, gate: Gate, request: Request, estimate: int, *, again: bool) -> None:
        self._gate = gate
        self.request = request
        self.estimate = estimate
        self.again = again
        self.counts_as_attempt = True
        self.is_probe = False
        self.started_at = 0.0
        self.report: ServerReport | None = None
        self.unused = False

    async def __aenter__(self) -> Self:
        await self._gate.begin(self)
        return self

    def answered(self, report: ServerReport | None) -> None:
        """Take note of what the answer reports about limits and usage."""
        self.report = report

    def withdraw(self) -> None:
        """Take note that no call was made after all: everything reserved is given back."""
        self.unused = True

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._gate.end(self, error)
