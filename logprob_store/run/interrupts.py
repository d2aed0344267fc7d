"""Ctrl-C, SIGTERM and SIGHUP during a run: the first ends it in order, the second at once."""

from __future__ import annotations

import asyncio
import signal


def stop_on_signals(stop: asyncio.Event) -> None:
    """Let the first Ctrl-C, SIGTERM or SIGHUP set `stop`, and the second cancel the current task.

    A terminal that is closed sends SIGHUP; under `nohup` it stays ignored.
    """
    loop, this = asyncio.get_running_loop(), asyncio.current_task()

    def interrupt() -> None:
        if stop.is_set() and this is not None:
            this.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, interrupt)
