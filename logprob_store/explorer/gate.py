"""Who may ask the explorer: only the browser that was opened with its address, and only from the explorer's own pages.

Any page in the browser can send requests to this machine, and any program on it can connect. So a request must name the
explorer's own host (a name that an attacker points to 127.0.0.1 is refused), must not come from another site, and must
carry what a browser gets once, for the token in the address that the terminal shows: a cookie, which scripts do not
see, and a secret that the page's script sends. Browsers send a cookie to every port of a host, so that other servers on
this machine may know it: a request for what is in the store needs the secret too. A script can add no header to a
download, so a download needs a ticket: a page gets it with the secret, and it is good for one download.
"""

from __future__ import annotations

import html
import json
import secrets
from collections import deque
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN: Final = "token"  # noqa: S105  the name of the parameter
SECRET: Final = "x-logprobs-secret"  # noqa: S105  the name of the header
"""The header that the page's script sends its secret in."""
TICKET: Final = "ticket"
"""The parameter of a download's address."""
HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""On each answer, also those that refuse."""
_USED: Final = (
    "This address was opened before, and opens one browser only. Go on in that browser, or end `logprobs explore` with "
    "Ctrl-C and start it again."
)
_ENTERED: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>logprobs explore</title>
<link rel="icon" href="data:,">
<meta name="secret" content="{secret}">
<meta name="goes-to" content="{to}">
<script type="module" src="/static/explorer/static/entering.js"></script>
</head>
<body><noscript>The explorer is drawn by a script, which is turned off here.</noscript></body>
</html>
"""
"""The page that a browser gets for the token. A page of our own leads on: a browser that came from elsewhere, such as
from a file, sends a strict cookie only from the second page on."""
_MOST_TICKETS: Final = 20
_NO_COOKIE: Final = (
    "Open the address that `logprobs explore` printed, with its token: a page of the explorer is only for the browser "
    "that was opened with it."
)


class Gate:
    """An ASGI application in front of another, which sees only what may be asked."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost"))
        self._cookie = f"logprobs-explore-{port}"
        self._session = secrets.token_urlsafe(32)
        self._secret = secrets.token_urlsafe(32)
        self._tickets: deque[str] = deque(maxlen=_MOST_TICKETS)
        self._is_used = False
        self.token = secrets.token_urlsafe(24)
        """For the address; it opens the explorer once."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if (refusal := self._refusal(scope, headers)) is not None:
            await _answer(send, *refusal)
            return
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in pairs if name == TOKEN]
        if given and scope["path"] == "/":
            await self._exchange(send, given[0], [pair for pair in pairs if pair[0] != TOKEN], headers)
            return
        if not self._has_session(headers) or not self._may_read(scope["path"], headers, pairs):
            await _answer(send, 403, _NO_COOKIE)
            return
        if scope["path"] == "/api/ticket":
            self._tickets.append(secrets.token_urlsafe(24))
            body = json.dumps({TICKET: self._tickets[-1]})
            await _answer(send, 200, body, {"content-type": "application/json"})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_as_bytes(HEADERS)]
            await send(message)

        rest = urlencode([pair for pair in pairs if pair[0] != TICKET]).encode()
        await self._app({**scope, "query_string": rest}, receive, send_with_headers)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        """The status and the words for a request that no token could save."""
        if [name for name, _ in scope["headers"]].count(b"host") != 1 or headers["host"].lower() not in self._hosts:
            return 400, "This is not the explorer's host: open the address that `logprobs explore` printed."
        if scope["method"] not in {"GET", "HEAD", "POST"}:
            return 405, "The explorer answers GET, HEAD and POST."
        site, mode = headers.get("sec-fetch-site"), headers.get("sec-fetch-mode")
        is_navigation = scope["method"] == "GET" and mode == "navigate" and headers.get("sec-fetch-dest") == "document"
        if site not in {None, "same-origin", "none"} and not is_navigation:
            return 403, "Another site may not ask the explorer."
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{headers['host'].lower()}":
            return 403, "Another site may not ask the explorer."
        return None

    async def _exchange(self, send: Send, token: str, others: list[tuple[str, str]], headers: dict[str, str]) -> None:
        """Give the cookie and the secret for the token, once, and go on without it in the address."""
        to = f"/?{urlencode(others)}" if others else "/"
        if self._has_session(headers):
            await _answer(send, 303, "", {"location": to})
        elif self._is_used:
            await _answer(send, 403, _USED)
        elif not secrets.compare_digest(token.encode(), self.token.encode()):
            await _answer(send, 403, _NO_COOKIE)
        else:
            self._is_used = True
            cookie = f"{self._cookie}={self._session}; HttpOnly; SameSite=Strict; Path=/"
            page = _ENTERED.format(secret=self._secret, to=html.escape(to))
            await _answer(send, 200, page, {"content-type": "text/html; charset=utf-8", "set-cookie": cookie})

    def _may_read(self, path: str, headers: dict[str, str], pairs: list[tuple[str, str]]) -> bool:
        """Whether a request brings what its path needs beside the cookie: nothing for the page and its scripts."""
        if path == "/" or path.startswith("/static/"):
            return True
        for ticket in (value for name, value in pairs if name == TICKET and path == "/export"):
            if ticket in self._tickets:
                self._tickets.remove(ticket)
                return True
        return secrets.compare_digest(headers.get(SECRET, "").encode(), self._secret.encode())

    def _has_session(self, headers: dict[str, str]) -> bool:
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        found = cookies.get(self._cookie)
        return found is not None and secrets.compare_digest(found.value.encode(), self._session.encode())


async def _answer(send: Send, status: int, words: str, headers: dict[str, str] | None = None) -> None:
    """Send a text."""
    body = words.encode()
    own = {"content-type": "text/plain; charset=utf-8", "content-length": str(len(body))}
    listed = _as_bytes({**own, **(headers or {}), **HEADERS})
    await send({"type": "http.response.start", "status": status, "headers": listed})
    await send({"type": "http.response.body", "body": body})


def _as_bytes(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
