"""The explorer in a browser: filters, order, permalinks, one completion, two beside each other, one token, SQL."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from browser.looking import grave_findings, overflow, take_screenshots
from browser.nights_store import PROMPTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from browser.explorers import Explorer
    from playwright.sync_api import Page

    Visit = Callable[..., Page]

pytestmark = pytest.mark.slow

P07 = 7 * 10**8  # the completion of the prompt p07
P10 = 10 * 10**8


@pytest.fixture
def visit(explorer: Explorer, open_page: Callable[..., Page]) -> Visit:
    """Open the explorer at what an address has behind the `?`, and wait until it is drawn."""

    def opened(address: str = "", **how: bool | int) -> Page:
        page = open_page(f"{explorer.address}?{address}", cookies=explorer.cookies, **how)
        settled(page)
        return page

    return opened


def settled(page: Page) -> None:
    """Wait until the page has drawn what its address names."""
    page.locator("main:not([aria-busy]) h1").wait_for()


def prompts(page: Page) -> list[str]:
    """The prompts of the rows of the list, in order."""
    return page.locator("table.rows tbody th a").all_inner_texts()


def rows_become(page: Page, number: int) -> None:
    """Wait until the page says that so many rows are selected."""
    page.locator("[role=status]", has_text=re.compile(rf"^{number} rows?$")).wait_for()


def test_the_newest_run_comes_first(visit: Visit) -> None:
    """Without a filter the explorer shows the newest run, the least sure answer first, and says so in the address."""
    page = visit()
    page.wait_for_url("**/?run=tuesday")
    rows_become(page, PROMPTS)

    assert prompts(page)[0] == "p00"


def test_an_address_is_a_permalink(visit: Visit) -> None:
    """Filter, order and page stand in the address, and an address shows the same again."""
    page = visit("run=monday&sort=confidence&order=desc&text=Rome")
    rows_become(page, PROMPTS // 3)

    assert prompts(page)[0] == "p58"  # the last n with n % 3 == 1 is the surest


def test_a_text_filters(visit: Visit) -> None:
    """What is typed into the field is looked for, and stands in the address; the focus stays in the field."""
    page = visit("run=monday")
    page.get_by_label("Text contains").fill("lima")
    rows_become(page, PROMPTS // 3)

    assert "text=lima" in page.url
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.activeElement.name") == "text"


def test_back_shows_what_was_there(visit: Visit) -> None:
    """The back button goes from a completion to the list that it was in, and from there to the list before."""
    page = visit("run=monday")
    rows_become(page, PROMPTS)
    page.get_by_label("Text contains").fill("Rome")
    rows_become(page, PROMPTS // 3)
    page.locator("table.rows a").first.click()
    page.locator(".tokens").wait_for()

    page.go_back()
    rows_become(page, PROMPTS // 3)
    page.go_back()
    rows_become(page, PROMPTS)

    assert page.url.endswith("?run=monday")


def test_a_completion_by_keyboard_alone(visit: Visit) -> None:
    """From the list to a completion, over its tokens, and to what a token is elsewhere, without a mouse."""
    page = visit(f"run=monday&show=monday/{P07}")
    page.locator(".tokens").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    said = page.locator("[aria-live]").first.inner_text()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    focused = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    page.locator("h1", has_text="Rome").wait_for()

    assert said.startswith("Rome: 13.1 %")  # 8 / 61
    assert focused == "This token elsewhere"
    assert "at=content" in page.url


def test_two_runs_beside_each_other(visit: Visit) -> None:
    """Two answers to a prompt stand side by side, with the tokens that differ marked in both."""
    page = visit(f"show=monday/{P10}&with=tuesday/{P10}")

    texts = page.locator(".tokens").all_inner_texts()
    assert texts == ["It is Rome.", "It is Lima."]
    marked = page.locator(".tokens .diverges, .tokens .differs, .tokens mark")
    assert [one.strip() for one in marked.all_inner_texts()] == ["Rome", "Lima"]


def test_dragging_over_a_histogram_filters(visit: Visit) -> None:
    """A range that is drawn over a histogram stands in the address, and fewer rows are left."""
    page = visit("run=monday")
    chart = page.locator("figure.histogram svg").first
    chart.wait_for()
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 1, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.mouse.up()
    page.wait_for_url("**confidence.*")
    settled(page)

    assert 0 < len(prompts(page)) < PROMPTS


def test_sql(visit: Visit) -> None:
    """A question in SQL is answered by a table."""
    page = visit("view=sql")
    page.locator("textarea").fill("select run, count(*) as n from completions group by run order by run")
    page.keyboard.press("Control+Enter")
    page.locator("main table").first.wait_for()

    assert page.locator("main table tbody").first.inner_text().split() == ["monday", "60", "tuesday", "60"]


@pytest.mark.parametrize("format_name", ["csv", "parquet"])
def test_the_selection_is_downloaded(visit: Visit, format_name: str) -> None:
    """The link downloads the rows that are selected."""
    page = visit("run=monday&text=Rome")
    rows_become(page, PROMPTS // 3)
    with page.expect_download() as waiting:
        page.locator(f"a[href*='format={format_name}']").click()

    content = waiting.value.path().read_bytes()
    assert content.startswith(b"PAR1") if format_name == "parquet" else content.count(b"\n") == 1 + PROMPTS // 3


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1440, False)], ids=["390-dark", "1440-light"])
@pytest.mark.parametrize(
    "address",
    [
        "run=monday",
        f"show=monday/{P07}",
        f"show=monday/{P10}&with=tuesday/{P10}",
        f"show=monday/{P07}&at=content/1",
        "view=sql",
    ],
    ids=["list", "completion", "compared", "token", "sql"],
)
def test_no_serious_finding(visit: Visit, address: str, width: int, dark: bool) -> None:  # noqa: FBT001
    """axe-core has nothing serious to say about any view, and none is wider than its window."""
    page = visit(address, width=width, dark=dark)
    page.wait_for_load_state("networkidle")

    assert grave_findings(page) == []
    assert overflow(page) == 0


@pytest.mark.slow
@pytest.mark.parametrize("address", ["run=monday", f"show=monday/{P10}&with=tuesday/{P10}", f"show=monday/{P07}"])
def test_screenshots_of_the_explorer(visit: Visit, address: str, screenshots: Path) -> None:
    """There are pictures to look at."""
    page = visit(address)
    page.wait_for_load_state("networkidle")

    name = re.sub(r"\W+", "-", address)
    assert all(path.stat().st_size for path in take_screenshots(page, screenshots, f"explorer-{name}"))


def test_typing_is_not_disturbed(visit: Visit) -> None:
    """What is typed slowly, while the list is drawn anew, stays as it was typed."""
    page = visit("run=monday")
    page.get_by_label("Text contains").focus()
    for letter in "It is Rome":
        page.keyboard.type(letter)
        page.wait_for_timeout(200 if letter != "i" else 600)
    rows_become(page, PROMPTS // 3)

    assert page.get_by_label("Text contains").input_value() == "It is Rome"
