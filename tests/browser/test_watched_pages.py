"""The watch over pages: what a page must not do is a complaint, and nothing else is."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from browser.looking import grave_findings, overflow, tags, take_screenshots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from browser.watched_pages import WatchedPages
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

QUIET = "<title>A page</title><main><h1>A page</h1><p>quiet</p></main>"


@pytest.fixture
def write_page(tmp_path: Path) -> Callable[[str], Path]:
    """Write a page with this body."""

    def write(body: str) -> Path:
        path = tmp_path / "page.html"
        path.write_text(f'<!doctype html><html lang="en"><meta charset="utf-8">{body}</html>', encoding="utf-8")
        return path

    return write


@pytest.fixture
def address() -> Iterator[str]:
    """The address of a server on this machine that answers everything with a script that asks it once more."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = f'{QUIET}<script>fetch("/more").then((answer) => answer.text())</script>'.encode()
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("<script>console.error('broken')</script>", "the console has: error: broken"),
        ("<script>throw new Error('broken')</script>", "an exception in the page: broken"),
        ("<script>Promise.reject(new Error('late'))</script>", "an exception in the page: late"),
        ("<script>alert(1)</script>", "the page opened a dialog: alert: 1"),
        ("<script>window.open('about:blank')</script>", "the page opened a window"),
        ("<img alt='' src='http://evil.example/x.png'>", "a request left the page: GET http://evil.example/x.png"),
        ("<img alt='' src='other.png'>", "a request left the page: GET file:///"),
        ("<script>fetch('http://127.0.0.1:9/')</script>", "a request left the page: GET http://127.0.0.1:9/"),
        ("<script>new WebSocket('ws://127.0.0.1:9/')</script>", "a request left the page: a web socket to ws://127"),
    ],
)
def test_what_a_page_must_not_do(
    pages: WatchedPages, write_page: Callable[[str], Path], body: str, complaint: str
) -> None:
    """Errors, dialogs, windows and requests that leave the page are complaints."""
    page = pages.open(write_page(QUIET + body))
    page.wait_for_timeout(100)

    assert any(said.startswith(complaint) for said in pages.complaints), pages.complaints
    pages.complaints.clear()


def test_a_quiet_page(pages: WatchedPages, write_page: Callable[[str], Path]) -> None:
    """There is nothing to complain of in a page that loads what it holds itself."""
    dot = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    pages.open(write_page(f"{QUIET}<img alt='a dot' src='{dot}'><script>console.log('fine')</script>"))

    assert pages.complaints == []


def test_a_page_may_ask_its_own_server(pages: WatchedPages, address: str) -> None:
    """What is of the same origin is let through, and was answered."""
    page = pages.open(address)

    page.wait_for_function("performance.getEntriesByType('resource').some((one) => one.name.endsWith('/more'))")
    assert page.inner_text("p") == "quiet"


def test_a_picture_without_a_text_is_found(open_page: Callable[..., Page], write_page: Callable[[str], Path]) -> None:
    """axe-core finds what a screen reader could not read."""
    page = open_page(write_page(QUIET.replace("quiet", "<img src='data:,'>")))

    assert [found.split()[0] for found in grave_findings(page)] == ["image-alt"]


def test_a_plain_page_is_accessible(open_page: Callable[..., Page], write_page: Callable[[str], Path]) -> None:
    """axe-core has nothing serious to say about a page with a title, a heading and a text."""
    assert grave_findings(open_page(write_page(QUIET))) == []


def test_screenshots(open_page: Callable[..., Page], write_page: Callable[[str], Path], tmp_path: Path) -> None:
    """Four pictures are taken: two widths, each in light and in dark, and dark differs from light."""
    page = open_page(write_page(f"<style>:root {{ color-scheme: light dark }}</style>{QUIET}"))

    taken = take_screenshots(page, tmp_path, "quiet")

    assert [path.name for path in taken] == [
        "quiet-390-light.png",
        "quiet-390-dark.png",
        "quiet-1440-light.png",
        "quiet-1440-dark.png",
    ]
    assert len({path.read_bytes() for path in taken}) == 4


def test_a_page_that_is_too_wide(open_page: Callable[..., Page], write_page: Callable[[str], Path]) -> None:
    """The overflow is how far one would have to scroll sideways."""
    body = "<body style='margin: 0'><div style='width: 400px'>wide</div></body>"

    assert overflow(open_page(write_page(body), width=390)) == 10


def test_tags_are_counted(open_page: Callable[..., Page], write_page: Callable[[str], Path]) -> None:
    """Each element counts under its name."""
    page = open_page(write_page("<p>one</p><p>two &lt;b&gt;</p>"))

    assert tags(page) == {"html": 1, "head": 1, "meta": 1, "body": 1, "p": 2}
