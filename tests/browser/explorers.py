"""`logprobs explore` in a process of its own, and what the browser that was opened with its address keeps."""

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
    """Where an explorer answers, and what a browser keeps that it lets in: cookies, and storage of its origin."""

    address: str
    cookies: Any


@contextmanager
def exploring(store: Path, browser: Browser, *words: str | Path) -> Iterator[Explorer]:
    """Explore all runs of a store; its address is opened once, and what the browser keeps is there for later pages."""
    command = [PROGRAM, "explore", store, "--run", "all", "--no-open", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        context = browser.new_context()
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector("main")
        cookies = context.storage_state()
        context.close()
        yield Explorer(url.partition("?")[0], cookies)
    finally:
        process.terminate()
        process.wait(ENDS_WITHIN_S)
        process.stdout.close()
