"""Hostile text in the explorer: in the list, in filters, on pages of answers and failures, in SQL, in downloads."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
from browser.explorers import Explorer, exploring
from browser.hostile_store import END_SCRIPT, SCRIPT, TEXTS, make_hostile_store
from browser.looking import grave_findings, overflow, tags
from browser.test_hostile_pages import said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from browser.watched_pages import WatchedPages
    from playwright.sync_api import Browser, Page

    Open = Callable[..., Page]

pytestmark = pytest.mark.slow

TAGS = {
    *("html", "head", "meta", "title", "link", "script", "body", "a", "header", "p", "bdi", "nav", "noscript", "main"),
    *("div", "details", "summary", "form", "label", "input", "select", "option", "button", "figure", "figcaption"),
    *("span", "svg", "rect", "section", "h1", "h2", "h3", "h4", "table", "thead", "tbody", "tr", "th", "td"),
    *("dl", "dt", "dd", "ul", "ol", "li", "code", "pre", "textarea", "strong", "datalist"),
}
"""The elements that the explorer is made of; within `svg`, a bar's `title` is one of them."""
NUMBERS = {name: number * 10**8 for number, name in enumerate(TEXTS)}
"""The completion of each hostile text."""


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Explorer]:
    """The explorer of the hostile store."""
    with exploring(make_hostile_store(tmp_path_factory.mktemp("hostile")), browser) as running:
        yield running


@pytest.fixture
def page(explorer: Explorer, open_page: Open) -> Page:
    """A page of the explorer."""
    return open_page(explorer.address, cookies=explorer.cookies)


def go(page: Page, explorer: Explorer, **address: str) -> None:
    """Go to an address, and wait until it is drawn."""
    page.goto(f"{explorer.address}?{urlencode(address)}")
    page.locator("main:not([aria-busy]) h1").wait_for()
    page.wait_for_load_state("networkidle")


def assert_harmless(page: Page) -> None:
    """The page has its own elements alone, one script and no attribute that is one."""
    counts = tags(page)
    attributes = page.evaluate(
        "[...document.querySelectorAll('*')].flatMap((one) => [...one.attributes].map((held) => held.name))"
    )
    links = page.evaluate("[...document.querySelectorAll('a')].map((one) => one.protocol)")

    assert set(counts) <= TAGS
    assert counts["script"] == 1
    assert [name for name in attributes if name.startswith("on")] == []
    assert set(links) == {"http:"}


@pytest.mark.parametrize("run", ["night.1", "-night_2", "decided"])
def test_the_list_is_harmless(page: Page, explorer: Explorer, run: str) -> None:
    """Ids, answers, labels and the values of filters are text."""
    go(page, explorer, run=run)

    assert_harmless(page)
    assert overflow(page) == 0
    assert grave_findings(page) == []


@pytest.mark.slow
def test_every_hostile_completion_is_shown(page: Page, explorer: Explorer) -> None:
    """The page of a completion has its text, character by character, with symbols for what would be obeyed."""
    found = {}
    for name, number in NUMBERS.items():
        go(page, explorer, show=f"night.1/{number}")
        assert_harmless(page)
        found[name] = page.evaluate(
            "[...document.querySelectorAll('.tokens [data-place]')].map((one) => one.textContent).join('')"
        )

    assert found == {name: said(name, text) for name, text in TEXTS.items()}


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(TEXTS), len(TEXTS) + 8))
def test_odd_completions_are_shown(page: Page, explorer: Explorer, number: int) -> None:
    """One token, none, a megabyte of one, no logprobs, no alternatives: each has its page."""
    go(page, explorer, show=f"night.1/{number * 10**8}")

    assert_harmless(page)
    assert page.locator("#problem").is_hidden()
    assert overflow(page) == 0


def test_two_hostile_answers_beside_each_other(page: Page, explorer: Explorer) -> None:
    """A comparison of hostile answers is text."""
    number = NUMBERS["closing tags"]
    go(page, explorer, show=f"night.1/{number}", **{"with": f"-night_2/{number}"})

    assert_harmless(page)
    assert page.locator(".tokens").count() == 2


def test_a_hostile_token_elsewhere(page: Page, explorer: Explorer) -> None:
    """The page of a token that is a script names it."""
    go(page, explorer, show=f"night.1/{NUMBERS['script']}", at="content/1")

    assert_harmless(page)
    assert SCRIPT in page.locator("h1").inner_text()


def test_a_hostile_failure(page: Page, explorer: Explorer) -> None:
    """The message of a refusal is text."""
    go(page, explorer, run="night.1", kind="failed")
    page.locator("table.rows a").first.click()
    page.locator("h1", has_text="refused").wait_for()

    assert_harmless(page)
    assert END_SCRIPT in page.locator("main").inner_text()


@pytest.mark.parametrize("text", [END_SCRIPT, "{{ 7*191 }}", '"><img src=x>', "%00"])
def test_a_hostile_address_is_text(page: Page, explorer: Explorer, pages: WatchedPages, text: str) -> None:
    """What an address says is looked for, named in an error, or not found, and nothing else."""
    for name in ("text", "run", "label", "sort", "view", "show", "failure", "query", text):
        page.goto(f"{explorer.address}?{urlencode({name: text})}")
        page.locator("#views a").first.wait_for()

        assert_harmless(page)
        assert "1337" not in page.locator("body").inner_text()
    # What cannot be answered is refused with a status, which the browser notes on the console.
    pages.complaints[:] = [said for said in pages.complaints if "a status of 400" not in said]


def test_hostile_sql(page: Page, explorer: Explorer) -> None:
    """A table of hostile values is text, and so is an error that repeats what was asked."""
    go(page, explorer, view="sql")
    page.locator("textarea").fill("select prompt_id, text, model from completions limit 40")
    page.keyboard.press("Control+Enter")
    page.locator("main table tbody tr").first.wait_for()
    assert_harmless(page)

    page.locator("textarea").fill(f"select '{END_SCRIPT}' frim nowhere")
    page.keyboard.press("Control+Enter")
    page.locator("main table").wait_for(state="detached")
    assert_harmless(page)


def test_formulas_are_disarmed_in_a_download(page: Page, explorer: Explorer) -> None:
    """No cell of the CSV begins like a formula."""
    go(page, explorer, run="night.1", text="cmd")
    with page.expect_download() as waiting:
        page.locator("a[href*='format=csv']").click()

    rows = list(csv.reader(io.StringIO(waiting.value.path().read_text(encoding="utf-8"))))
    assert len(rows) >= 2
    assert [cell for row in rows[1:] for cell in row if cell[:1] in {"=", "+", "@"}] == []
