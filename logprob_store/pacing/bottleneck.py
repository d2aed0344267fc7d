"""What held a run up: the server's limits, its speed, an outage, or this machine.

`BottleneckWatch` samples that four times a second. Sampling costs nothing per call, and a quarter of a second is fine
enough for one sentence at the end.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

Cause = Literal["limit", "server", "outage", "machine"]

_INTERVAL_S: Final = 0.25
_BUSY_SHARE: Final = 0.85
"""Share of its time that a busy event loop is computing."""
_LATE_SHARE: Final = 0.25
"""Share of the interval by which a sample of a busy event loop comes late."""

_SENTENCES: Final = {
    "limit": "bound by the server's limits, or the job's own: {share:.0%} of the time calls waited for them",
    "server": "bound by the server's speed: {share:.0%} of the time as many calls were under way as allowed, or the "
    "last ones were waited for",
    "outage": "bound by an outage: {share:.0%} of the time the server did not answer",
    "machine": "bound by this machine: {share:.0%} of the time the server had room for more calls than were made",
}


@dataclass(slots=True)
class Bottleneck:
    """Seconds of a run, by what held it up.

    `limit_s`: calls waited for a limit of requests or tokens, or as long as the server said. `server_s`: as many calls
    were under way as allowed. `outage_s`: the breaker was open. `machine_s`: more calls could have been made, or the
    event loop was busy: prompts were read, answers decoded and stored.
    """

    limit_s: float = 0.0
    server_s: float = 0.0
    outage_s: float = 0.0
    machine_s: float = 0.0

    @property
    def bound_by(self) -> str:
        """`limit`, `server`, `outage` or `machine`, whichever took longest; empty before the first sample.

        >>> Bottleneck(limit_s=9, server_s=1).bound_by
        'limit'
        """
        seconds = {name.removesuffix("_s"): value for name, value in dataclasses.asdict(self).items()}
        most = max(seconds, key=lambda name: seconds[name])
        return most if seconds[most] else ""

    @property
    def sentence(self) -> str:
        """What held the run up most, as a sentence for people.

        >>> Bottleneck(outage_s=30, server_s=30.5, machine_s=0).sentence[:43]
        "bound by the server's speed: 50% of the tim"
        """
        seconds = dataclasses.asdict(self)
        share = max(seconds.values()) / (sum(seconds.values()) or 1.0)
        return _SENTENCES[self.bound_by].format(share=share) if self.bound_by else ""


class BottleneckWatch:
    """Samples what holds calls back, and sums up the seconds.

    Args:
        cause_now: names what holds calls back now.
    """

    def __init__(self, cause_now: Callable[[], Cause]) -> None:
        self.bottleneck = Bottleneck()
        self._cause_now = cause_now
        self._timer: asyncio.TimerHandle | None = None
        self._sampled_at = 0.0
        self._cpu_s = 0.0

    def start(self) -> None:
        """Begin to sample."""
        loop = asyncio.get_running_loop()
        self._sampled_at, self._cpu_s = loop.time(), time.thread_time()
        self._timer = loop.call_at(self._sampled_at + _INTERVAL_S, self._sample)

    def stop(self) -> None:
        """End sampling."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sample(self) -> None:
        loop = asyncio.get_running_loop()
        now, cpu_s = loop.time(), time.thread_time()
        passed_s = now - self._sampled_at
        cause = self._cause_now()
        # To a busy event loop the server looks slow: answers wait in the sockets.
        busy = cpu_s - self._cpu_s > _BUSY_SHARE * passed_s or passed_s - _INTERVAL_S > _LATE_SHARE * _INTERVAL_S
        if cause == "server" and busy:
            cause = "machine"
        name = f"{cause}_s"
        setattr(self.bottleneck, name, getattr(self.bottleneck, name) + passed_s)
        self._sampled_at, self._cpu_s = now, cpu_s
        self._timer = loop.call_at(now + _INTERVAL_S, self._sample)
