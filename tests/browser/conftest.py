"""A real browser for the pages: Debian's Chromium, driven by Playwright; a test fails on any complaint of its pages.

The browser is of one file of tests, since `asyncio.run` cannot run beside it: stores are made by the command line, in a
process of its own (`browser.stores`).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser.explorers import exploring
from browser.nights_store import make_nights_store
from browser.watched_pages import WatchedPages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from browser.explorers import Explorer
    from playwright.sync_api import Browser, Page

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""The first is Chromium without the window around its pages: a page takes a quarter of the CPU."""
FLAGS = [
    "--no-sandbox",  # a container's root has none
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; without one the test is skipped, or fails where the environment has NEED_BROWSER."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        reason = "no chromium on the PATH: apt-get install chromium-headless-shell"
        if os.environ.get("NEED_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Explorer]:
    """The explorer of both nights."""
    with exploring(make_nights_store(tmp_path_factory.mktemp("nights")), browser) as running:
        yield running


@pytest.fixture
def pages(browser: Browser) -> Iterator[WatchedPages]:
    """Pages of this test, and what there is to complain of in them, which fails the test when it ends."""
    watched = WatchedPages(browser)
    yield watched
    watched.close()
    if watched.complaints:
        pytest.fail("\n".join(watched.complaints), pytrace=False)


@pytest.fixture
def open_page(pages: WatchedPages) -> Callable[..., Page]:
    """Open a file or a loopback address: `open_page(path, width=390, dark=True, touch=True)`."""
    return pages.open


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """The folder for screenshots: the test's own, or that which the environment names by SCREENSHOTS."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
