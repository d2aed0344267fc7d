"""Pages of a browser that are watched: what they say on the console, what breaks in them, and what they ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urlsplit

if TYPE_CHECKING:
    from typing import Any

    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Route, WebSocketRoute

PERMISSIONS = ["clipboard-read", "clipboard-write"]
TIMEOUT_MS = 20_000
OWN_SCHEMES = {"about", "blob", "data"}


class WatchedPages:
    """Opens pages, each in a context of its own, and keeps what there is to complain of in `complaints`.

    Complaints are errors and warnings on the console, exceptions, dialogs, and requests that leave the page: for a file
    all but the file itself, for an address all that are not of its origin. Such requests are not let through.
    """

    def __init__(self, browser: Browser) -> None:
        self.complaints: list[str] = []
        self._browser = browser
        self._contexts: list[BrowserContext] = []

    def open(
        self,
        what: Path | str,
        *,
        width: int = 1440,
        height: int = 900,
        dark: bool = False,
        touch: bool = False,
        script: bool = True,
        cookies: Any = None,
    ) -> Page:
        """Open a file or an address in a window of this size, in CSS pixels, and wait until it is loaded.

        `cookies` is what an earlier context kept, from its `storage_state`.
        """
        address = what.as_uri() if isinstance(what, Path) else what
        context = self._browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            has_touch=touch,
            java_script_enabled=script,
            reduced_motion="reduce",
            accept_downloads=True,
            storage_state=cookies,
        )
        context.set_default_timeout(TIMEOUT_MS)
        context.grant_permissions(PERMISSIONS)
        self._contexts.append(context)
        self._guard(context, address)
        page = context.new_page()
        context.on("page", lambda opened: self.complaints.append(f"the page opened a window: {opened.url}"))
        page.goto(address)
        return page

    def close(self) -> None:
        """Close all pages."""
        for context in self._contexts:
            context.close()
        self._contexts.clear()

    def _guard(self, context: BrowserContext, address: str) -> None:
        """Let through what belongs to an address, and note everything else."""

        def answer(route: Route) -> None:
            if belongs(route.request.url, address):
                route.continue_()
            else:
                self.complaints.append(f"a request left the page: {route.request.method} {route.request.url[:200]}")
                route.abort()

        def connect(socket: WebSocketRoute) -> None:
            self.complaints.append(f"a request left the page: a web socket to {socket.url[:200]}")
            socket.close()

        context.route("**/*", answer)
        context.route_web_socket("**/*", connect)
        context.on("console", self._read)
        context.on("weberror", lambda broken: self.complaints.append(f"an exception in the page: {broken.error}"))
        context.on("dialog", self._dismiss)

    def _read(self, said: ConsoleMessage) -> None:
        if said.type in {"error", "warning", "assert"}:
            self.complaints.append(f"the console has: {said.type}: {said.text}")

    def _dismiss(self, dialog: Dialog) -> None:
        self.complaints.append(f"the page opened a dialog: {dialog.type}: {dialog.message}")
        dialog.dismiss()


def belongs(url: str, address: str) -> bool:
    """Whether what is asked for belongs to a page: the file itself, or an address of the same origin.

    >>> belongs("file:///r.html#one", "file:///r.html"), belongs("file:///etc/passwd", "file:///r.html")
    (True, False)
    >>> belongs("http://127.0.0.1:80/a.js", "http://127.0.0.1:80/"), belongs("http://x.example/", "http://127.0.0.1:80/")
    (True, False)
    """
    asked, page = urlsplit(url), urlsplit(address)
    if asked.scheme in OWN_SCHEMES:
        return True
    if page.scheme == "file":
        return urldefrag(url).url == urldefrag(address).url
    return (asked.scheme, asked.netloc) == (page.scheme, page.netloc)
