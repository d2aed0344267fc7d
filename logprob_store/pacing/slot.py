"""A call's place in the queue and at the server.

Holds `Slot`: what the call will cost, and how it ended. Leaves out when it may start (`pacer`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from logprob_store.pacing.pacer import Pacer
    from logprob_store.request import Request
    from logprob_store.usage import ServerReport


class Slot:
    """A call's place: `async with pacer.slot(request) as slot`, held while the call is under way and no longer.

    Tell it what the answer said with `answered`; how the call failed it sees itself. After its end `counts` says
    whether the call counts as an attempt: not so during an outage.
    """

    __slots__ = ("_pacer", "again", "counts", "estimate", "probe", "report", "request", "started_at", "unused")

    def __init__(self, pacer: Pacer, request: Request, estimate: int, *, again: bool) -> None:
        self._pacer = pacer
        self.request = request
        self.estimate = estimate
        self.again = again
        self.counts = True
        self.probe = False
        self.started_at = 0.0
        self.report: ServerReport | None = None
        self.unused = False

    async def __aenter__(self) -> Self:
        await self._pacer.begin(self)
        return self

    def answered(self, report: ServerReport | None) -> None:
        """The call was answered, and the answer said this about limits and usage."""
        self.report = report

    def withdraw(self) -> None:
        """No call was made after all: everything reserved is given back."""
        self.unused = True

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._pacer.end(self, error)
