"""What bound a run: the server's limits, its speed, an outage, or this machine.

Holds the looking, four times a second, and the verdict. Leaves out what is looked at (`pacer`). Looking costs nothing
per call, and a quarter of a second is fine enough for a sentence at the end.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_EVERY_S: Final = 0.25
_BUSY: Final = 0.85
_LATE: Final = 0.25

_SENTENCES: Final = {
    "limit": "bound by the server's limits, or the job's own: {share:.0%} of the time calls waited for them",
    "server": "bound by the server's speed: {share:.0%} of the time as many calls were under way as allowed, or the "
    "last ones were waited for",
    "outage": "bound by an outage: {share:.0%} of the time the server did not answer",
    "machine": "bound by this machine: {share:.0%} of the time the server had room for more calls than were made",
}


@dataclass(slots=True)
class Bottleneck:
    """Seconds of a run by what held it up.

    `limit_s`: calls waited for a limit of requests or tokens, or as long as the server said. `server_s`: as many calls
    were under way as allowed. `outage_s`: the breaker was open. `machine_s`: calls could have been made and were not,
    or the event loop had no time: prompts were read, answers decoded and stored.
    """

    limit_s: float = 0.0
    server_s: float = 0.0
    outage_s: float = 0.0
    machine_s: float = 0.0

    @property
    def bound_by(self) -> str:
        """`limit`, `server`, `outage` or `machine`, whichever took longest; empty before anything was seen.

        >>> Bottleneck(limit_s=9, server_s=1).bound_by
        'limit'
        """
        seconds = {name.removesuffix("_s"): value for name, value in dataclasses.asdict(self).items()}
        most = max(seconds, key=lambda name: seconds[name])
        return most if seconds[most] else ""

    @property
    def sentence(self) -> str:
        """The verdict for people.

        >>> Bottleneck(outage_s=30, server_s=30.5, machine_s=0).sentence[:43]
        "bound by the server's speed: 50% of the tim"
        """
        seconds = dataclasses.asdict(self)
        share = max(seconds.values()) / (sum(seconds.values()) or 1.0)
        return _SENTENCES[self.bound_by].format(share=share) if self.bound_by else ""


class Watch:
    """Looks again and again at what holds calls back, and adds up.

    Args:
        look: names what holds calls back now: `limit`, `server`, `outage` or `machine`.
    """

    def __init__(self, look: Callable[[], str]) -> None:
        self.bottleneck = Bottleneck()
        self._look = look
        self._timer: asyncio.TimerHandle | None = None
        self._at = 0.0
        self._cpu_s = 0.0

    def start(self) -> None:
        """Look from now on."""
        loop = asyncio.get_running_loop()
        self._at, self._cpu_s = loop.time(), time.thread_time()
        self._timer = loop.call_at(self._at + _EVERY_S, self._tick)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now, cpu_s = loop.time(), time.thread_time()
        passed = now - self._at
        what = self._look()
        # An event loop without time of its own sees a slow server: answers wait in the sockets.
        if what == "server" and (cpu_s - self._cpu_s > _BUSY * passed or passed - _EVERY_S > _LATE * _EVERY_S):
            what = "machine"
        name = f"{what}_s"
        setattr(self.bottleneck, name, getattr(self.bottleneck, name) + passed)
        self._at, self._cpu_s = now, cpu_s
        self._timer = loop.call_at(now + _EVERY_S, self._tick)
