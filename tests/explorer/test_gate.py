"""Who may ask the explorer."""

from __future__ import annotations

from typing import Any

import pytest

from logprob_store.explorer.gate import HEADERS

PATHS = ["/", "/api/overview", "/api/rows", "/export?format=csv", "/static/view/page/tokens.js", "/nothing"]


def test_the_token_opens_one_browser(explorer_server: Any) -> None:
    """It is exchanged for a cookie and a secret, and is then of no use."""
    entered = explorer_server.ask(f"/?{explorer_server.token}&run=one")
    cookie = entered.headers["set-cookie"]
    again = explorer_server.ask(f"/?{explorer_server.token}")

    assert entered.status == 200
    assert b'content="/?run=one"' in entered.body
    assert cookie.endswith("; HttpOnly; SameSite=Strict; Path=/")
    assert explorer_server.token.partition("=")[2] not in cookie
    assert again.status == 403
    assert b"was opened before" in again.body
    assert explorer_server.ask("/", cookie=cookie.partition(";")[0]).status == 200


def test_the_browser_that_has_the_cookie_may_open_the_address_again(explorer_server: Any) -> None:
    """As when somebody clicks it a second time."""
    explorer_server.enter()

    again = explorer_server.get(f"/?{explorer_server.token}")

    assert (again.status, again.headers["location"]) == (303, "/")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("cookie", [None, "", "wrong", "logprobs-explore-{port}=wrong", "logprobs-explore-{port}="])
def test_nothing_is_answered_without_the_cookie(explorer_server: Any, path: str, cookie: str | None) -> None:
    """Nor with a wrong one."""
    headers = {} if cookie is None else {"cookie": cookie.format(port=explorer_server.port)}

    assert explorer_server.ask(path, **headers).status == 403


@pytest.mark.parametrize("token", ["token=", "token=wrong", "token=wrong&token=%E9"])
def test_a_wrong_token_opens_nothing(explorer_server: Any, token: str) -> None:
    """And does not use up the right one."""
    refused = explorer_server.ask(f"/?{token}")

    assert refused.status == 403
    assert "set-cookie" not in refused.headers
    assert explorer_server.ask(f"/?{explorer_server.token}").status == 200


READING = ["/api/overview", "/api/rows", "/api/ticket", "/export?format=csv", "/export?format=csv&ticket=x", "/nothing"]


@pytest.mark.parametrize("path", READING)
@pytest.mark.parametrize("secret", ["", "wrong"])
def test_the_cookie_alone_reads_nothing(explorer_server: Any, path: str, secret: str) -> None:
    """A browser sends it to every port of this machine: another server there may have it."""
    explorer_server.enter()

    assert explorer_server.get(path, x_logprobs_secret=secret).status == 403


def test_the_cookie_does_not_give_the_secret(explorer_server: Any) -> None:
    """Neither the page nor the address, opened again, has it."""
    explorer_server.enter()

    for path in ("/", f"/?{explorer_server.token}"):
        answer = explorer_server.ask(path, cookie=explorer_server.cookie)
        assert explorer_server.secret not in answer.body.decode() + str(answer.headers)


def test_a_ticket_is_good_for_one_download(explorer_server: Any) -> None:
    """Which a browser makes without a header of ours; it opens nothing else."""
    ticket = explorer_server.get("/api/ticket").json["ticket"]

    def asked(path: str) -> int:
        return int(explorer_server.ask(f"{path}ticket={ticket}", cookie=explorer_server.cookie).status)

    assert [asked(path) for path in ("/api/rows?", "/export?format=csv&", "/export?format=csv&")] == [403, 200, 403]


def test_the_page_that_leads_on_has_no_markup_of_the_address(explorer_server: Any) -> None:
    """What stands behind the token is text alone."""
    body = explorer_server.ask(f"/?{explorer_server.token}&run=%22%3E%3Cscript%3E").body

    assert b"<script>" not in body


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1:{port}.evil.example", ""]
)
def test_another_host_is_refused(explorer_server: Any, host: str) -> None:
    """A name that somebody pointed to this machine, also with the cookie or the token."""
    name = host.format(port=explorer_server.port)
    explorer_server.enter()

    assert explorer_server.get("/api/rows", host=name).status == 400
    assert explorer_server.ask(f"/?{explorer_server.token}", host=name).status == 400


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}"])
def test_its_own_host_is_answered(explorer_server: Any, host: str) -> None:
    """By number and by name."""
    assert explorer_server.get("/api/rows", host=host.format(port=explorer_server.port)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1:{port}"},
        {"origin": "http://127.0.0.1:1"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"},
    ],
)
def test_another_site_is_refused(explorer_server: Any, headers: dict[str, str]) -> None:
    """Though its request brings the cookie."""
    sent = {name: value.format(port=explorer_server.port) for name, value in headers.items()}

    assert explorer_server.get("/api/rows", **sent).status == 403
    assert explorer_server.post("/api/sql", {"query": "select 1"}, **sent).status == 403


def test_its_own_page_is_answered(explorer_server: Any) -> None:
    """With the headers that a browser sends."""
    own = {"origin": f"http://127.0.0.1:{explorer_server.port}", "sec_fetch_site": "same-origin"}

    assert explorer_server.get("/api/rows", **own).status == 200
    assert explorer_server.post("/api/refresh", {}, **own).status == 200


def test_a_form_of_another_site_is_not_json(explorer_server: Any) -> None:
    """A POST wants a type that no form can send without being asked first."""
    refused = explorer_server.post("/api/sql", {"query": "select 1"}, content_type="text/plain")

    assert refused.status == 415


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_other_methods_are_refused(explorer_server: Any, method: str) -> None:
    """Also before they are looked at: OPTIONS is how a browser asks whether another site may."""
    explorer_server.enter()
    refused = explorer_server.ask("/api/rows", method=method, cookie=explorer_server.cookie)

    assert refused.status == 405
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/explorer/static/../server.py",
        "/static/explorer/static/%2e%2e/server.py",
        "/static//etc/passwd",
        "/static/view/page/token_view.py",
        "/static/explorer/templates/page.html",
        "/static/",
    ],
)
def test_no_path_leads_to_another_file(explorer_server: Any, path: str) -> None:
    """Only the scripts and styles of the page are answered."""
    assert explorer_server.get(path).status == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/api/overview", 200),
        ("/api/rows?colour=red", 400),
        ("/export?format=csv", 200),
        ("/static/explorer/static/explorer.js", 200),
        ("/nothing", 404),
        ("/api/sql", 405),
    ],
)
def test_each_answer_is_locked_down(explorer_server: Any, path: str, status: int) -> None:
    """Good ones and bad ones have the policy, are kept by nobody, and are taken for what they say they are."""
    answer = explorer_server.get(path)

    assert answer.status == status
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS


@pytest.mark.parametrize("headers", [{}, {"host": "evil.example"}, {"origin": "http://evil.example"}])
def test_each_refusal_is_locked_down(explorer_server: Any, headers: dict[str, str]) -> None:
    """The same for whoever may not ask."""
    answer = explorer_server.ask("/", **headers)

    assert answer.status in {400, 403}
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS


def test_the_policy_lets_no_script_of_a_text_run() -> None:
    """Neither inline nor from elsewhere, and nothing is sent elsewhere."""
    policy = dict(part.split(" ", 1) for part in HEADERS["content-security-policy"].split("; "))

    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == policy["style-src"] == "'self'"


def test_the_page_names_nothing_elsewhere(explorer_server: Any) -> None:
    """No address of another host stands in what the browser loads."""
    page = explorer_server.get("/").body.decode()
    names = ["address", "asking", "details", "entering", "explorer", "histogram", "lists", "sql", "what_if"]
    scripts = [explorer_server.get(f"/static/explorer/static/{name}.js").body.decode() for name in names]

    for text in (page, *scripts):
        assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "innerHTML" not in text
