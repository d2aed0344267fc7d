"""The browser opened with the file that leads to an explorer's address."""

from __future__ import annotations

import subprocess
import webbrowser
from typing import TYPE_CHECKING

import pytest
from browser.explorers import ENDS_WITHIN_S
from browser.nights_store import make_nights_store
from browser.stores import PROGRAM

from logprob_store.explorer.opening import opened_in_browser

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow


def test_the_file_leads_to_the_answers(tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser that comes from a file sends no strict cookie at first: it comes by a page of the explorer's own."""
    monkeypatch.setattr(webbrowser, "open", lambda _: True)
    command = [PROGRAM, "explore", make_nights_store(tmp_path), "--no-open"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        with opened_in_browser(process.stdout.readline().strip()) as file:
            page = browser.new_context().new_page()
            page.goto(file.as_uri())
            page.wait_for_selector("table.rows")
            again = page.context.new_page()
            again.goto(page.url)
            again.wait_for_selector("table.rows")
            page.context.close()
    finally:
        process.terminate()
        process.wait(ENDS_WITHIN_S)
        process.stdout.close()
