"""The report in a browser: hover, keys, touch, shading, filters, copying, printing, accessibility."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from browser.looking import grave_findings, overflow, take_screenshots
from browser.nights_store import PROMPTS, make_nights_store
from browser.stores import logprobs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Locator, Page

    Open = Callable[..., Page]

pytestmark = pytest.mark.slow

LEAST_SURE = 50  # of 60 answers, the report chooses so many


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of Tuesday, which is compared with Monday."""
    folder = tmp_path_factory.mktemp("nights")
    make_nights_store(folder)
    logprobs("report", "store", "--run", "tuesday", "--expected", "truth", "-o", "report.html", folder=folder)
    return folder / "report.html"


def answer(page: Page, prompt: str) -> Locator:
    """The answer to a prompt."""
    return page.locator("li.answer", has=page.locator("h3", has_text=re.compile(f"^{prompt}$")))


def tokens(page: Page, prompt: str) -> Locator:
    """The tokens of this run's answer to a prompt, which can be focused."""
    return answer(page, prompt).locator(".tokens").last


def panel(page: Page, prompt: str) -> Locator:
    """What is shown of the current token."""
    return answer(page, prompt).locator(".token-panel").last


def shown_ids(page: Page) -> list[str]:
    """The prompts of the answers in the list, in order."""
    return page.locator("li.answer h3").all_inner_texts()


def copied(page: Page) -> str:
    """Copy what is selected, and return the clipboard's text."""
    page.keyboard.press("Control+c")
    return str(page.evaluate("navigator.clipboard.readText()"))


def test_hover_shows_the_alternatives(report: Path, open_page: Open) -> None:
    """Over a token the panel has its probability and what else was likely; elsewhere it is gone."""
    page = open_page(report)
    place = answer(page, "p01").locator(".tokens [data-place='1']").last

    place.hover()
    said = panel(page, "p01").inner_text()
    page.locator("h1").hover()

    # p = 2 / 61; Oslo has half of the rest
    assert "p 3.28 %" in said
    assert re.search(r"␣Oslo\s+48.4 %", said)
    assert panel(page, "p01").is_hidden()


def test_arrow_keys_go_from_token_to_token(report: Path, open_page: Open) -> None:
    """Right goes to the next token, down to the next unsure one, End to the last; a screen reader is told each."""
    page = open_page(report)
    tokens(page, "p01").focus()

    heard = []
    for key in ("ArrowRight", "ArrowDown", "End", "Home", "ArrowLeft"):
        page.keyboard.press(key)
        heard.append(answer(page, "p01").locator("[aria-live]").last.inner_text())

    assert [said.split(":")[0].strip() for said in heard] == ["It is", "Rome", ".", "It is", "It is"]
    assert "3.28 %; else Oslo 48.4 %" in heard[1]


def test_enter_pins_and_escape_closes(report: Path, open_page: Open) -> None:
    """A pinned panel stays when the mouse is elsewhere; Escape closes it, and the focus stays where it was."""
    page = open_page(report)
    tokens(page, "p01").focus()

    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    answer(page, "p01").locator(".tokens [data-place='2']").last.hover()
    pinned = panel(page, "p01").inner_text()
    page.keyboard.press("Escape")

    assert "It␣is" in pinned
    assert panel(page, "p01").is_hidden()
    assert page.evaluate("document.activeElement.className") == "tokens"


def test_escape_closes_what_the_mouse_shows(report: Path, open_page: Open) -> None:
    """A panel that covers what one wants to read is closed without moving the mouse, wherever the focus is."""
    page = open_page(report)
    answer(page, "p01").locator(".tokens [data-place='1']").last.hover()
    assert panel(page, "p01").is_visible()

    page.keyboard.press("Escape")

    assert panel(page, "p01").is_hidden()


def test_every_control_is_reached_by_tab(report: Path, open_page: Open) -> None:
    """From the top of the page Tab goes over the skip link and the controls to the first answer's tokens, in order."""
    page = open_page(report)
    seen: list[str] = []
    while "tokens" not in seen:
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate(
                "document.activeElement.id || document.activeElement.dataset.group || document.activeElement.className"
            )
        )
        assert len(seen) < 60, seen

    assert seen[0] == "skip"
    kept = [name for name in seen if name in {"least sure", "changed most", "order", "by", "find", "tokens"}]
    assert kept == ["least sure", "changed most", "order", "by", "find", "tokens"]


def test_the_focus_is_seen(report: Path, open_page: Open) -> None:
    """What has the focus has an outline."""
    page = open_page(report)
    page.locator("#find").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")

    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_touch_pins_and_a_second_touch_closes(report: Path, open_page: Open) -> None:
    """On a telephone a tap on a token shows its panel within the window, and another tap closes it."""
    page = open_page(report, width=390, height=800, touch=True)
    place = answer(page, "p01").locator(".tokens [data-place='1']").last
    place.scroll_into_view_if_needed()

    place.tap()
    box = panel(page, "p01").bounding_box()
    said = panel(page, "p01").inner_text()
    place.tap()

    assert "␣Oslo" in said
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    assert box["y"] + box["height"] <= 800
    assert panel(page, "p01").is_hidden()


def test_the_shading_is_a_switch(report: Path, open_page: Open) -> None:
    """Shaded by rank, an unlikely token that was still the second is as light as a second; the legend says ranks."""
    page = open_page(report)
    place = answer(page, "p01").locator(".tokens [data-place='1']").last
    before = place.get_attribute("class")

    page.select_option("#by", "rank")

    assert before == "t l5 diverges" if "diverges" in (before or "") else before == "t l5"
    assert (place.get_attribute("class") or "").split()[:2] == ["t", "l1"]
    assert page.locator("#legend li").first.inner_text() == "the likeliest"


def test_shades_are_told_without_colour(report: Path, open_page: Open) -> None:
    """The unlikely levels have lines of three kinds beneath them."""
    page = open_page(report)

    lines = [
        page.locator(f"#legend .l{level}").evaluate(
            "(element) => getComputedStyle(element).textDecorationLine + ' ' "
            "+ getComputedStyle(element).textDecorationStyle"
        )
        for level in range(6)
    ]

    assert lines == ["none solid"] * 3 + ["underline dotted", "underline solid", "underline double"]


def test_a_text_is_found(report: Path, open_page: Open) -> None:
    """The list has what holds the text in answer, prompt or id, and the page says how many."""
    page = open_page(report)
    page.locator("#groups button", has_text="all").click()

    page.fill("#find", "NUMBER 7?")

    assert shown_ids(page) == ["p07"]
    assert page.locator("#count").inner_text().startswith("1 of ")


def test_groups_and_order(report: Path, open_page: Open) -> None:
    """A group shows its own answers; sorted by perplexity the highest come first."""
    page = open_page(report)

    page.locator("#groups button", has_text="changed most").click()
    changed = shown_ids(page)
    page.locator("#groups button", has_text="all").click()
    page.select_option("#order", "perplexity")

    assert sorted(changed) == [f"p{n}0" for n in range(6)]
    assert shown_ids(page)[0] == "p00"


def test_more_answers_are_shown_when_asked(report: Path, open_page: Open) -> None:
    """Twenty answers are drawn at once, and the button brings the next ones until all are there."""
    page = open_page(report)
    page.locator("#groups button", has_text="least sure").click()
    counts = [len(shown_ids(page))]
    while page.locator("#more").is_visible():
        page.locator("#more").click()
        counts.append(len(shown_ids(page)))

    assert counts == [20, 40, LEAST_SURE]


def brush(page: Page, field: str, first: float, last: float) -> None:
    """Drag over the chart of a score, between two shares of its width."""
    plot = page.locator(f"svg[data-field='{field}'] .background").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + first * box["width"], middle)
    page.mouse.down()
    page.mouse.move(box["x"] + (first + last) / 2 * box["width"], middle)
    page.mouse.move(box["x"] + last * box["width"], middle)
    page.mouse.up()


def confidences(page: Page) -> list[float]:
    """The confidence of each answer in the list, as it is written there."""
    heads = page.locator("li.answer .answer-head").all_inner_texts()
    return [float(found[1]) for head in heads if (found := re.search(r"confidence ([0-9.]+)", head))]


def show_everything(page: Page) -> None:
    """Show all groups, and all their answers."""
    page.locator("#groups button", has_text="all").click()
    while page.locator("#more").is_visible():
        page.locator("#more").click()


def test_dragging_over_a_chart_filters_the_list(report: Path, open_page: Open) -> None:
    """The list has the answers of the range alone, says so, and has all of them again when the filter is removed."""
    page = open_page(report)
    show_everything(page)
    everything = confidences(page)

    brush(page, "confidence", 0.0, 0.5)  # the axis goes from 0 to 1
    within = confidences(page)
    said = page.locator("#filters button").all_inner_texts()
    page.locator("#filters button").click()
    show_everything(page)

    assert within == [value for value in everything if value <= 0.5]
    assert 0 < len(within) < len(everything)
    assert len(said) == 1
    assert re.match(r"confidence .* 0\.5", said[0])
    assert confidences(page) == everything


def test_a_range_is_typed_by_keyboard(report: Path, open_page: Open) -> None:
    """Two fields beneath a chart do what dragging does."""
    page = open_page(report)
    show_everything(page)
    everything = confidences(page)

    page.get_by_label("confidence from").focus()
    page.keyboard.type("0.6")
    page.keyboard.press("Tab")
    page.keyboard.type("0.8")
    page.keyboard.press("Tab")
    show_everything(page)

    assert confidences(page) == [value for value in everything if 0.6 <= value <= 0.8]


def test_charts_have_words(report: Path, open_page: Open) -> None:
    """Each chart is a picture with a name for a screen reader."""
    page = open_page(report)
    charts = page.locator("figure.chart svg")

    roles = charts.evaluate_all("(all) => all.map((one) => one.getAttribute('role'))")
    names = charts.evaluate_all("(all) => all.map((one) => one.getAttribute('aria-label'))")
    assert set(roles) == {"img"}
    assert len(set(names)) == len(names) >= 7
    assert all(names)


def test_charts_follow_the_scheme(report: Path, open_page: Open) -> None:
    """The axes' words have the page's own colour, in light and in dark."""
    page = open_page(report)
    fills = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        texts = page.locator("figure.chart svg text")
        fills.append(set(texts.evaluate_all("(all) => all.map((one) => getComputedStyle(one).fill)")))
        assert fills[-1] == {page.evaluate("getComputedStyle(document.body).color")}

    assert fills[0] != fills[1]


def test_the_run_before_stands_beside(report: Path, open_page: Open) -> None:
    """An answer that changed is beside the one of the night before, the first token that differs marked in both."""
    page = open_page(report)
    page.locator("#groups button", has_text="changed most").click()

    sides = answer(page, "p10").locator(".tokens")

    assert sides.all_inner_texts() == ["It is Rome.", "It is Lima."]
    assert [side.locator(".diverges").inner_text().strip() for side in sides.all()] == ["Rome", "Lima"]


def test_copied_text_is_the_answer(report: Path, open_page: Open) -> None:
    """What is selected and copied is the text as the model wrote it, with no numbers in between."""
    page = open_page(report)
    tokens(page, "p07").select_text()

    assert copied(page) == "It is Rome."


def test_a_part_can_be_copied(report: Path, open_page: Open) -> None:
    """A selection from within one token to within another gives what stands between."""
    page = open_page(report)
    tokens(page, "p07").evaluate(
        """(box) => {
            const [first, second] = box.querySelectorAll("[data-place]");
            const range = document.createRange();
            range.setStart(first.firstChild, 3);
            range.setEnd(second.firstChild, 3);
            getSelection().removeAllRanges();
            getSelection().addRange(range);
        }"""
    )

    assert copied(page) == "is Ro"


def test_a_selection_beyond_the_tokens_is_copied_as_it_is(report: Path, open_page: Open) -> None:
    """A selection over two answers holds what stands between them, too."""
    page = open_page(report)
    page.evaluate("getSelection().selectAllChildren(document.getElementById('list'))")

    text = copied(page)

    assert "p00" in text
    assert "p01" in text
    assert "confidence" in text


def test_a_selection_that_leaves_the_tokens_is_copied_whole(report: Path, open_page: Open) -> None:
    """Dragged from one answer into the one beside it, a selection holds both, and the words between."""
    page = open_page(report)
    page.locator("#list .tokens").nth(0).evaluate(
        """(box) => {
            const next = document.querySelectorAll("#list .tokens")[1];
            getSelection().setBaseAndExtent(box.querySelector("[data-place='1']").firstChild, 1,
                next.querySelector("[data-place='1']").firstChild, 3);
        }"""
    )

    assert re.fullmatch(r" ?Paris\.\s*now, another answer\s*It is Ro", copied(page))


def test_three_clicks_copy_the_answer(report: Path, open_page: Open) -> None:
    """Three clicks, by which browsers select a paragraph and the beginning of the next, copy the answer alone."""
    page = open_page(report)
    tokens(page, "p07").click(click_count=3)

    assert copied(page) == "It is Rome."


def test_printing_leaves_out_what_paper_cannot_do(report: Path, open_page: Open) -> None:
    """On paper the answers and figures stand, and no controls; the PDF is not empty."""
    page = open_page(report)
    content = page.pdf()
    page.emulate_media(media="print")

    assert content.startswith(b"%PDF-")
    assert len(content) > 20_000
    assert tokens(page, "p01").is_visible()
    assert page.locator("dl.facts").is_visible()
    assert page.locator("#controls").is_hidden()
    assert page.locator("#more").is_hidden()


def test_shades_are_printed(report: Path, open_page: Open) -> None:
    """Browsers print no backgrounds by themselves; these are asked for, as they are what is to be seen."""
    page = open_page(report)
    page.emulate_media(media="print")

    place = tokens(page, "p01").locator("[data-place='1']")
    assert place.evaluate("(element) => getComputedStyle(element).printColorAdjust") == "exact"


def test_without_script_the_figures_stand(report: Path, open_page: Open) -> None:
    """Where scripts are off, the figures and a sentence about the answers are there."""
    page = open_page(report, script=False)

    assert f"to {PROMPTS} prompts" in page.locator("dl.facts").inner_text()
    assert page.locator("noscript").is_visible()


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1440, False)], ids=["390-dark", "1440-light"])
def test_no_serious_finding(report: Path, open_page: Open, width: int, dark: bool) -> None:  # noqa: FBT001
    """axe-core has nothing serious to say, with the details open and a token pinned; nothing is wider than the page."""
    page = open_page(report, width=width, dark=dark)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    tokens(page, "p01").focus()
    page.keyboard.press("End")
    page.keyboard.press("Enter")

    assert grave_findings(page) == []
    assert overflow(page) == 0


@pytest.mark.slow
def test_screenshots_of_the_report(report: Path, open_page: Open, screenshots: Path) -> None:
    """The page looks otherwise in the dark."""
    taken = take_screenshots(open_page(report), screenshots, "report")

    assert len({path.read_bytes() for path in taken}) == len(taken)
