"""A store that is explored, and a server over it."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
from contextlib import contextmanager
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
    from logprob_store.what_if.asking import WhatIf


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
    """A running server, asked as a browser would, and by whoever has neither cookie nor secret."""

    def __init__(self, served: Served, exploring: Exploring) -> None:
        self.served = served
        self.exploring = exploring
        self.port = served.port
        self.token = urlsplit(served.url).query
        self.cookie = ""
        self.secret = ""

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
        """Take the cookie and the secret for the token."""
        entered = self.ask(f"/?{self.token}")
        self.cookie = entered.headers["set-cookie"].partition(";")[0]
        self.secret = entered.body.decode().partition('name="secret" content="')[2].partition('"')[0]

    def get(self, path: str, **headers: str) -> Answered:
        """Ask as the page of the browser that was opened with the address."""
        if not self.cookie:
            self.enter()
        return self.ask(path, **{"cookie": self.cookie, "x_logprobs_secret": self.secret, **headers})

    def post(self, path: str, value: Any, **headers: str) -> Answered:
        """Send JSON as the page of that browser."""
        return self.post_raw(path, json.dumps(value).encode(), **headers)

    def post_raw(self, path: str, body: bytes, **headers: str) -> Answered:
        """Send a body that is said to be JSON."""
        if not self.cookie:
            self.enter()
        own = {"cookie": self.cookie, "x_logprobs_secret": self.secret}
        sent = {"content_type": "application/json", **own, **headers}
        return self.ask(path, method="POST", body=body, **sent)


@pytest.fixture(scope="session")
def made_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`make_store`'s, for all tests: only to be read."""
    return make_store(tmp_path_factory.mktemp("made") / "store")


@pytest.fixture
def store(tmp_path: Path, made_store: Path) -> Path:
    """A copy of `made_store`, for one test."""
    return shutil.copytree(made_store, tmp_path / "store")


@pytest.fixture(scope="module")
def explored(made_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exploring]:
    """A copy of `made_store` as it is explored, for the tests of a file."""
    store = shutil.copytree(made_store, tmp_path_factory.mktemp("explored") / "store")
    with Exploring(lambda: open_store(store)) as exploring:
        yield exploring


@contextmanager
def serving(exploring: Exploring, what_if: WhatIf | None = None) -> Iterator[ExplorerServer]:
    """A server, which asks what would have followed if it is told how."""
    served = serve_exploring(exploring, what_if=what_if)
    thread = threading.Thread(target=served.run)
    thread.start()
    try:
        yield ExplorerServer(served, exploring)
    finally:
        served.stop()
        thread.join()


@contextmanager
def serving_store(store: Path, what_if: WhatIf | None = None) -> Iterator[ExplorerServer]:
    """A server over a store."""
    with Exploring(lambda: open_store(store)) as exploring, serving(exploring, what_if) as server:
        yield server


@pytest.fixture
def explorer_server(explored: Exploring) -> Iterator[ExplorerServer]:
    """A server that nobody has entered yet, over a store that other tests read, too."""
    with serving(explored) as server:
        yield server


@pytest.fixture
def own_explorer_server(store: Path) -> Iterator[ExplorerServer]:
    """A server over `store`, which the test may change."""
    with serving_store(store) as server:
        yield server
