"""What would have followed another token, in a browser: offered, asked once, shown beside the original."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from browser.explorers import exploring
from browser.looking import grave_findings, overflow, take_screenshots
from browser.stores import logprobs
from builders import merge_sections, write_job, write_prompts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from browser.watched_pages import WatchedPages
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

PRICES = {"input_usd_per_million_tokens": 1, "output_usd_per_million_tokens": 10}
THE_THIRD = "show=r/0&at=content/2"


class Visits:
    """Pages of explorers of one store."""

    def __init__(self, folder: Path, url: str, browser: Browser, open_page: Callable[..., Page]) -> None:
        self._folder, self._url, self._browser, self._open_page = folder, url, browser, open_page
        self._explorers: list[Any] = []

    def job(self, **sections: Mapping[str, Any]) -> Path:
        """Write the job file, with the keys of these sections added."""
        usual = {"model": {"params": {"temperature": 0, "max_tokens": 6}}, "prices": PRICES}
        return write_job(self._folder, self._url, **merge_sections(usual, sections))

    def open(self, *words: str | Path, **how: Any) -> Page:
        """The page of the third token of an answer, as `logprobs explore` with these words has it."""
        running = exploring(self._folder / "store", self._browser, *words)
        self._explorers.append(running)
        explorer = running.__enter__()
        page = self._open_page(f"{explorer.address}?{THE_THIRD}", cookies=explorer.cookies, **how)
        page.locator("main:not([aria-busy]) h1").wait_for()
        return page

    def close(self) -> None:
        """End the explorers."""
        for running in self._explorers:
            running.__exit__(None, None, None)


@pytest.fixture
def visits(tmp_path: Path, fault_server: Any, browser: Browser, open_page: Callable[..., Page]) -> Iterator[Visits]:
    """A store of one answer, made by a live job."""
    made = Visits(tmp_path, fault_server.url, browser, open_page)
    write_prompts(tmp_path, {"text": ["Where is Kabul?"]})
    logprobs("run", made.job(), "--run", "r", folder=tmp_path)
    yield made
    made.close()


def go_on(page: Page, number: int = 0) -> None:
    """Press the button of an alternative, by keyboard, and wait until its answer or a refusal is there."""
    page.get_by_role("button", name="Go on from").nth(number).focus()
    page.keyboard.press("Enter")
    page.locator(".sides, .panel [role=alert]:visible").first.wait_for()


def test_it_is_offered_with_its_price_and_asked_once(visits: Visits, fault_server: Any) -> None:
    """Each alternative that was not written has a button; one call is made, and a second click asks the cache."""
    page = visits.open("--job", visits.job())
    buttons = page.get_by_role("button", name="Go on from")
    offered, said = buttons.count(), page.locator("p.muted", has_text="asks m at").inner_text()
    calls = len(fault_server.calls)
    go_on(page)
    first, came = page.locator(".sides").inner_text(), page.get_by_text("Key in the cache").inner_text()
    go_on(page)
    page.get_by_text("From the cache, without a call.").wait_for()

    assert offered == page.locator("table.others tbody tr").count() - page.locator("td .tag.good").count()
    assert said.startswith("“Go on” asks m at http://127.0.0.1:")
    assert "at most $0.000" in page.locator("table.others").inner_text()
    assert came.startswith("From the server for $0.0000")
    assert page.locator(".sides").inner_text() == first
    assert len(fault_server.calls) == calls + 1


def test_the_answer_stands_beside_the_original(visits: Visits) -> None:
    """What both share is grey, the token in which they part is marked, and the cache's key is said."""
    page = visits.open("--job", visits.job())
    go_on(page)

    shared = page.locator(".sides .tokens").all()
    assert [side.locator(".shared").count() for side in shared] == [2, 2]
    assert [side.locator(".diverges").count() for side in shared] == [1, 1]
    assert [side.locator("[data-place]").count() for side in shared] == [6, 9]
    assert len(page.locator("main code", has_text="").last.inner_text()) == 64


def test_without_a_job_nothing_is_offered(visits: Visits, fault_server: Any) -> None:
    """The page of a token has no button to ask by."""
    calls = len(fault_server.calls)
    page = visits.open()

    assert page.get_by_role("button", name="Go on from").count() == 0
    assert len(fault_server.calls) == calls


def test_a_refusal_is_a_sentence_on_the_page(visits: Visits, pages: WatchedPages) -> None:
    """As that of a ceiling; the buttons can be pressed again."""
    page = visits.open("--job", visits.job(limits={"max_cost_usd": 1e-9}))
    go_on(page)
    refused = page.locator(".panel [role=alert]").inner_text()
    pages.complaints[:] = [said for said in pages.complaints if "a status of 502" not in said]

    assert refused.startswith("limits.max_cost_usd = 1e-09 allows no further call")
    assert page.get_by_role("button", name="Go on from").first.is_enabled()


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1440, False)], ids=["390-dark", "1440-light"])
def test_no_serious_finding(visits: Visits, width: int, dark: bool, screenshots: Path) -> None:  # noqa: FBT001
    """axe-core has nothing serious to say, and nothing is wider than the window."""
    page = visits.open("--job", visits.job(), width=width, dark=dark)
    go_on(page)

    assert grave_findings(page) == []
    assert overflow(page) == 0
    assert take_screenshots(page, screenshots, "what-if")
