"""How the explorer is used: the focus after a redraw, sorting, going on to the next answer, ranges, exact numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from browser.explorers import exploring
from browser.stores import run_recorded
from browser.test_explorer_page import P07, settled
from builders import chat_body, chat_token, write_job, write_prompts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from browser.explorers import Explorer
    from playwright.sync_api import Browser, Page, Route

    Visit = Callable[..., Page]

pytestmark = pytest.mark.slow


@pytest.fixture
def visit(explorer: Explorer, open_page: Callable[..., Page]) -> Visit:
    """Open the explorer at what an address has behind the `?`, and wait until it is drawn."""

    def opened(address: str = "", **how: bool | int) -> Page:
        page = open_page(f"{explorer.address}?{address}", cookies=explorer.cookies, **how)
        drawn(page)
        return page

    return opened


def drawn(page: Page) -> None:
    """Wait until the page is drawn, with its filters."""
    settled(page)
    page.wait_for_load_state("networkidle")


def focused(page: Page) -> str:
    """The name of the control that has the focus."""
    name: str = page.evaluate("(document.activeElement.name || document.activeElement.dataset.control) ?? ''")
    return name


@pytest.mark.parametrize(
    ("address", "control", "key", "then"),
    [
        ("run=monday", "[name=sort]", "ArrowDown", "sort"),
        ("run=monday", "[name=order]", "Enter", "order"),
        ("run=monday", "[data-control=Next]", "Enter", "Previous"),
        ("", "[data-control=Next]", "Enter", "Next"),
        ("run=monday", "[name=run-monday]", "Enter", "run"),
        ("run=monday&confidence.from=0.5", "[name='confidence.clear']", "Enter", "confidence.from"),
        (f"show=monday/{P07}", "[name=by]", "ArrowDown", "by"),
    ],
    ids=["sort", "order", "last page", "page", "value", "range", "shade"],
)
def test_the_focus_stays(visit: Visit, address: str, control: str, key: str, then: str) -> None:
    """A control that draws the page anew keeps the focus; one that is gone then leaves it to the one beside it."""
    page = visit(address or "run=monday&run=tuesday")
    before = page.url
    page.locator(control).focus()
    page.keyboard.press(key)
    page.wait_for_function("before => location.href !== before", arg=before)
    drawn(page)

    assert focused(page) == then


def test_the_next_page_begins_at_its_top(visit: Visit) -> None:
    """After Next the first row can be seen, also while the filters are still counted."""
    page = visit("run=monday&run=tuesday")
    page.route("**/api/values*", lambda _: None)
    page.locator("[data-control=Next]").click()
    page.locator(".paging", has_text="page 2 of").wait_for()

    assert page.evaluate("scrollY") == 0
    assert page.locator("table.rows tbody tr").first.bounding_box()["y"] > 0  # type: ignore[index]


def test_the_first_link_leads_past_the_filters(visit: Visit) -> None:
    """One Tab and Enter lead from the top of the page to the first answer."""
    page = visit("run=monday")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    assert page.evaluate("document.activeElement.textContent") == "p00"


def test_a_drag_holds_what_it_covers(visit: Visit) -> None:
    """Over values that differ by a millionth, a drag over the middle half gives ends that lie about that half."""
    low, high = 1.000001, 1.000101
    bins = {"low": low, "high": high, "bins": [2] * 40, "missing": 0, "beyond": False}
    page = visit("run=monday&view=sql")
    page.route("**/api/histogram*score=perplexity*", lambda one: one.fulfill(json={"score": "perplexity", **bins}))
    page.get_by_role("link", name="Answers", exact=True).click()
    drawn(page)
    chart = page.locator("figure.histogram", has_text="perplexity").locator("svg")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 3 / 4, box["y"] + 20)
    page.mouse.up()
    page.wait_for_url("**perplexity.to**")
    drawn(page)
    ends = [float(page.locator(f"[name='perplexity.{end}']").input_value()) for end in ("from", "to")]

    pixel, step = (high - low) / box["width"], (high - low) / 40
    assert low + (high - low) / 4 - step / 5 < ends[0] <= low + (high - low) / 4 + pixel
    assert low + (high - low) * 3 / 4 - pixel <= ends[1] < low + (high - low) * 3 / 4 + step / 5


NUMBERS = "select cast(0.1234567890123 as double) as share, 2026 as year, 1234567 as n, '=1+1' as text, run from runs"


def asked(visit: Visit) -> Page:
    """The page of a query whose first row has a long number, a year, a large whole number and a formula."""
    page = visit(f"view=sql&query={quote(NUMBERS)}")
    page.locator("main table").wait_for()
    return page


def test_numbers_of_a_query_can_be_read(visit: Visit) -> None:
    """A long number is shown in seven digits, and whole numbers as they are."""
    cells = asked(visit).locator("tbody tr").first.locator("td").all_inner_texts()

    assert cells[:3] == ["0.1234568", "2026", "1234567"]


def test_the_cell_with_the_focus_is_told_exactly(visit: Visit) -> None:
    """By arrow keys one goes from cell to cell, and reads all digits of a number."""
    page = asked(visit)
    page.locator("tbody td[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")

    assert page.locator(".exact").inner_text() == "share: 0.1234567890123"


def test_numbers_are_copied_with_all_digits(visit: Visit) -> None:
    """What is selected of a result is copied as it is in the store, with tabs between the cells."""
    page = asked(visit)
    page.evaluate("""() => {
        document.addEventListener("copy", (event) => { window.copied = event.clipboardData.getData("text/plain"); });
        getSelection().selectAllChildren(document.querySelector("tbody tr"));
    }""")
    page.keyboard.press("Control+c")

    assert page.evaluate("window.copied").startswith("0.1234567890123\t2026\t1234567\t=1+1\t")


def test_a_result_is_downloaded(visit: Visit) -> None:
    """The CSV of a result has all digits, and no formula."""
    page = asked(visit)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download as CSV").click()
    lines = waiting.value.path().read_text().splitlines()

    assert lines[0] == "share,year,n,text,run"
    assert lines[1].startswith("0.1234567890123,2026,1234567,'=1+1,")


def test_a_heading_sorts(visit: Visit) -> None:
    """The heading of a score sorts by it, the other way round when it is pressed again, and says so."""
    page = visit("run=monday")
    button = page.get_by_role("button", name="mean entropy")
    button.click()
    page.wait_for_url("**sort=mean_entropy*")
    drawn(page)
    button.click()
    page.wait_for_url("**order=desc*")
    drawn(page)

    assert page.locator("th[aria-sort=descending]").inner_text().startswith("mean entropy")
    assert focused(page) == "sort-mean_entropy"


def test_keys_lead_to_the_next_answer(visit: Visit) -> None:
    """From an open answer ] leads to the next one of the list, in its order and beyond its page, and [ back."""
    page = visit("run=monday&text=Rome&size=10")
    page.locator("table.rows tbody th a").last.click()  # prompts 1, 4, 7 ... 28
    page.locator("h1", has_text="p28").wait_for()
    page.keyboard.press("]")
    page.locator("h1", has_text="p31").wait_for()
    drawn(page)
    said, address = page.locator(".neighbours").inner_text(), page.url
    page.keyboard.press("[")
    page.locator("h1", has_text="p28").wait_for()

    assert "11 of 20" in said
    assert "page=2" in address
    assert "page=" not in page.url


def test_shading_keeps_the_next_answer(visit: Visit) -> None:
    """The link to the next answer is there, too, when the tokens are shaded by something else, and keeps that."""
    page = visit(f"run=monday&show=monday/{P07}&by=rank")
    page.get_by_role("link", name="Next answer").click()
    page.locator("h1", has_text="p08").wait_for()

    assert page.locator("[name=by]").input_value() == "rank"


def test_a_run_that_is_not_open_is_said(visit: Visit) -> None:
    """An address with a run that is not open says so, and which are."""
    words = visit("run=nope").locator("main").inner_text()

    assert "Run nope is not open here. Open are: monday, tuesday." in words


def test_a_page_beyond_the_last_is_said(visit: Visit) -> None:
    """An address with a page that there is not leads to the last one."""
    page = visit("run=monday&page=99")
    page.get_by_role("link", name="Go to page 2, the last.").click()
    drawn(page)

    assert page.locator("table.rows tbody tr").count() == 10


def test_equal_answers_part_nowhere(visit: Visit) -> None:
    """Of two equal answers nothing is said that holds up to a place."""
    words = visit(f"show=monday/{P07}&with=tuesday/{P07}").locator("main").inner_text()

    assert "Token by token the same. At each token the two runs' probabilities are at most" in words


def test_a_kept_column_has_its_name(visit: Visit) -> None:
    """A kept column is named as it was given, and told from a column of the store that has its name."""
    page = visit("run=monday&view=sql")
    for column in ("kept_review_id", "kept_label", "kept___proto__"):
        page.route(f"**/api/values*column={column}*", lambda one: one.fulfill(json=[["a", 1], ["b", 2]]))
    page.route("**/api/overview*", _with_columns)
    page.goto(page.url.replace("&view=sql", ""))
    drawn(page)
    names = page.locator(".choice label").evaluate_all("all => all.map((one) => one.firstChild.textContent)")

    assert names[-3:] == ["review_id", "kept: label", "__proto__"]


def _with_columns(route: Route) -> None:
    answer = route.fetch()
    route.fulfill(json={**answer.json(), "kept": ["kept_review_id", "kept_label", "kept___proto__"]})


def test_a_shading_is_kept_by_the_list(visit: Visit) -> None:
    """From an answer that is shaded by rank one goes back to the list, and from there to another one shaded so."""
    page = visit(f"run=monday&show=monday/{P07}&by=rank")
    page.get_by_role("link", name="All answers").click()
    page.locator("table.rows a").first.click()
    page.locator("h1", has_text="p00").wait_for()

    assert page.locator("[name=by]").input_value() == "rank"


def test_a_failure_elsewhere_is_a_link(visit: Visit) -> None:
    """Of the same prompt elsewhere a failed call leads to its page, too."""

    def with_failure(route: Route) -> None:
        one = route.fetch().json()
        failed = {"run": "tuesday", "completion_id": None, "error_type": "timeout", "text": None, "prompt_index": 7}
        route.fulfill(json={**one, "others": [{**one["others"][0], **failed}]})

    page = visit("run=monday&view=sql")
    page.route("**/api/completion?*", with_failure)
    page.goto(page.url.replace("view=sql", f"show=monday/{P07}"))
    drawn(page)

    address = page.locator("table.others tbody a").first.get_attribute("href")
    assert address is not None
    assert "failure=tuesday%2F7%2F0" in address


def test_a_long_token_has_a_short_heading(visit: Visit) -> None:
    """The heading of a very long token shows its beginning; its whole text can be read in a box below."""

    def lengthened(route: Route) -> None:
        one = route.fetch().json()
        token = one["tokens"]["sections"][0]["spans"][0][1][0]
        token[1] = token[6][0][0] = "x" * 50_000
        route.fulfill(json=one)

    page = visit("run=monday&view=sql")
    page.route("**/api/token?*", lengthened)
    page.goto(page.url.replace("view=sql", f"show=monday/{P07}&at=content/1"))
    drawn(page)

    assert page.locator("h1").inner_text().endswith("x … (50,000 characters)".replace(" ", "\u2423"))
    assert len(page.locator(".said code").first.inner_text()) == 50_000
    assert page.locator(".said").first.bounding_box()["height"] < 400  # type: ignore[index]


def test_values_beyond_the_list_are_found(tmp_path: Path, browser: Browser, open_page: Callable[..., Page]) -> None:
    """Of a column with more values than its list has, one types a part of a value, and can choose it."""
    numbers = range(60)
    columns = {"id": [f"p{n}" for n in numbers], "text": ["?"] * 60, "shop": [f"shop {n:02}" for n in numbers]}
    write_prompts(tmp_path, columns)
    job = write_job(
        tmp_path,
        prompts={"id": "id", "keep": ["shop"]},
        transport={"kind": "replay", "fixtures": "recorded.jsonl"},
        store={"path": "store"},
    )
    run_recorded(job, "one", lambda _: (200, chat_body([chat_token("Yes", -0.1)])))
    with exploring(tmp_path / "store", browser) as running:
        page = open_page(f"{running.address}?run=one", cookies=running.cookies)
        drawn(page)
        page.get_by_label("shop contains").fill("SHOP 59")
        page.locator("option", has_text="shop 59").wait_for(state="attached")
        page.locator("[name=kept_shop]").select_option("shop 59")
        page.wait_for_url("**kept_shop=shop+59*")
        drawn(page)

        assert page.locator("table.rows tbody th a").all_inner_texts() == ["p59"]
