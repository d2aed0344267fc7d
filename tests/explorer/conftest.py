"""A store that is explored, and a server over it."""

from __future__ import annotations

import http.client
import json
import threading
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from explorer.explored_store import make_store

from logprob_store.analysis.opened_store import open_store
from logprob_store.explorer.exploring import Exploring
from logprob_store.explorer.server import serve_exploring

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from logprob_store.explorer.server import Served


class Answered(NamedTuple):
    """An answer of the server."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


class ExplorerServer:
    """A running server, asked as a browser would, and by whoever has no cookie."""

    def __init__(self, served: Served, exploring: Exploring) -> None:
        self.served = served
        self.exploring = exploring
        self.port = served.port
        self.token = urlsplit(served.url).query
        self.cookie = ""

    def ask(self, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str) -> Answered:
        """Send a request with exactly these headers beside Host; `sec_fetch_site` is written `Sec-Fetch-Site`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return Answered(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def enter(self) -> None:
        """Take the cookie for the token."""
        self.cookie = self.ask(f"/?{self.token}").headers["set-cookie"].partition(";")[0]

    def get(self, path: str, **headers: str) -> Answered:
        """Ask as the browser that has the cookie."""
        if not self.cookie:
            self.enter()
        return self.ask(path, cookie=self.cookie, **headers)

    def post(self, path: str, value: Any, **headers: str) -> Answered:
        """Send JSON as the browser that has the cookie."""
        if not self.cookie:
            self.enter()
        sent = {"content_type": "application/json", "cookie": self.cookie, **headers}
        return self.ask(path, method="POST", body=json.dumps(value).encode(), **sent)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """`make_store`'s."""
    return make_store(tmp_path / "store")


@pytest.fixture
def explorer_server(store: Path) -> Iterator[ExplorerServer]:
    """A server over `store`."""
    with Exploring(lambda: open_store(store)) as exploring:
        served = serve_exploring(exploring)
        thread = threading.Thread(target=served.run)
        thread.start()
        try:
            yield ExplorerServer(served, exploring)
        finally:
            served.stop()
            thread.join()
