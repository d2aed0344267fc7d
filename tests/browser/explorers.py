"""`logprobs explore` in a process of its own, and the cookies of the browser that was opened with its address."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from browser.stores import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

ENDS_WITHIN_S = 15


class Explorer(NamedTuple):
    """Where an explorer answers, and the cookies that it lets in."""

    address: str
    cookies: list[Any]


@contextmanager
def exploring(store: Path, browser: Browser) -> Iterator[Explorer]:
    """Explore all runs of a store; its address is opened once, and the cookies are kept for later pages."""
    command = [PROGRAM, "explore", store, "--run", "all", "--no-open"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        context = browser.new_context()
        context.new_page().goto(url)
        cookies = context.cookies()
        context.close()
        yield Explorer(url.partition("?")[0], cookies)
    finally:
        process.terminate()
        process.wait(ENDS_WITHIN_S)
        process.stdout.close()
