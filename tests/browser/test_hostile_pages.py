"""Hostile text in a real browser: it is shown and copied as text, and does nothing."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from browser.hostile_store import TEXTS, make_hostile_store
from browser.looking import grave_findings, overflow, tags, take_screenshots
from browser.stores import logprobs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page

    Open = Callable[..., Page]

pytestmark = pytest.mark.slow

RUNS = ("night.1", "-night_2", "decided")
REPORT_TAGS = {
    *("html", "head", "meta", "title", "style", "body", "script", "noscript", "a", "header", "main", "footer"),
    *("section", "h1", "h2", "h3", "h4", "p", "ul", "ol", "li", "dl", "dt", "dd", "div", "span", "bdi", "strong"),
    *("code", "details", "summary", "table", "thead", "tbody", "tr", "th", "td", "label", "button", "select"),
    *("option", "input", "figure", "figcaption", "svg", "g", "path", "text", "line", "rect", "circle", "defs"),
    "tspan",
}
"""The elements that a report is made of. Hostile text would bring `img`, `iframe`, `textarea`, `template`, `b`."""
SPLIT = {"Arabic", "Hebrew", "Devanagari", "family", "combining"}
"""Texts whose tokens are letters or parts of letters."""
LONGEST_TOKEN = 2000  # characters of a token that a page shows


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hostile store."""
    return make_hostile_store(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def reports(store: Path) -> dict[str, Path]:
    """The report of each of its runs."""
    for run in RUNS:
        logprobs("report", store, f"--run={run}", "-o", f"{run}.html", folder=store.parent)
    return {run: store.parent / f"{run}.html" for run in RUNS}


def show_all(page: Page) -> None:
    """Show every answer of the report, with its prompt."""
    page.locator("#groups button", has_text=re.compile("^all$")).click()
    while page.locator("#more").is_visible():
        page.locator("#more").click()
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")


def texts_by_prompt(page: Page) -> dict[str, str]:
    """The text of each answer's own tokens, by the prompt's id as it is shown."""
    shown: dict[str, str] = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll("li.answer")].map((item) => {
            const own = [...item.querySelectorAll(".tokens")].at(-1);
            const text = [...(own?.querySelectorAll("[data-place]") ?? [])].map((one) => one.textContent).join("");
            return [item.querySelector("h3").textContent, text];
        }))"""
    )
    return shown


@pytest.mark.parametrize("run", RUNS)
def test_nothing_is_injected(reports: dict[str, Path], open_page: Open, run: str) -> None:
    """The page has its own elements alone, its two scripts and one style, and no attribute that is a script.

    That nothing is asked for, opened or complained of, `open_page` sees to.
    """
    page = open_page(reports[run])
    show_all(page)
    counts = tags(page)
    attributes = page.evaluate(
        "[...document.querySelectorAll('*')].flatMap((one) => [...one.attributes].map((held) => held.name))"
    )
    links = page.evaluate("[...document.querySelectorAll('[href], [src]')].map((one) => one.getAttribute('href'))")

    assert set(counts) <= REPORT_TAGS
    assert (counts["script"], counts["style"]) == (2, 1)
    assert [name for name in attributes if name.startswith("on")] == []
    assert links == ["#samples"]


@pytest.mark.parametrize("run", ["night.1", "-night_2"])
def test_templates_are_not_filled_in(reports: dict[str, Path], open_page: Open, run: str) -> None:
    """No 1337 stands where `{{ 7*191 }}` was."""
    page = open_page(reports[run])
    show_all(page)

    assert "{{ 7*191 }}" in page.locator("main").inner_text()
    assert "1337" not in page.locator("main").inner_text()


def test_every_hostile_text_is_shown(reports: dict[str, Path], open_page: Open) -> None:
    """The page shows what was stored, character by character, with symbols for what would be obeyed."""
    page = open_page(reports["night.1"])
    show_all(page)
    shown = texts_by_prompt(page)

    found = {}
    for name in TEXTS:
        (found[name],) = [text for prompt, text in shown.items() if prompt.startswith(f"{name} ")]
    expected = {name: said(name, text) for name, text in TEXTS.items()}
    assert found == expected


def before(name: str) -> str:
    """What the model wrote before a hostile text."""
    return "" if name in SPLIT else "It is: "


def said(name: str, text: str) -> str:
    """What a page shows of the answer with this hostile text: each character that is unsafe as a symbol."""
    if len(text) > LONGEST_TOKEN:
        text = f"{text[:LONGEST_TOKEN]} … ({len(text):,} characters)"
    symbols = {"\0": "␀", "\x07": "␇", "\x08": "␈", "\x1b": "␛", "\r": "␍", "\x7f": "␡"}
    hidden = "\x85\x9b\u00ad\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029\ufeff"
    return before(name) + "".join(symbols.get(char, "\ufffd" if char in hidden else char) for char in text)


def test_copied_text_is_what_was_stored(reports: dict[str, Path], open_page: Open) -> None:
    """The clipboard gets the model's own characters, overrides and all, and no symbols."""
    page = open_page(reports["night.1"])
    show_all(page)
    copied: dict[str, str] = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll("li.answer")].map((item) => {
            const box = [...item.querySelectorAll(".tokens")].at(-1);
            if (!box) return [item.querySelector("h3").textContent, ""];
            const event = new ClipboardEvent("copy", { clipboardData: new DataTransfer(), bubbles: true });
            getSelection().selectAllChildren(box);
            box.dispatchEvent(event);
            return [item.querySelector("h3").textContent, event.clipboardData.getData("text/plain")];
        }))"""
    )

    short = {name: text for name, text in TEXTS.items() if len(text) <= LONGEST_TOKEN}
    found = {name: [text for prompt, text in copied.items() if prompt.startswith(f"{name} ")] for name in short}
    assert found == {name: [before(name) + text] for name, text in short.items()}


def test_the_direction_does_not_leak(reports: dict[str, Path], open_page: Open) -> None:
    """An answer from right to left begins at the right of its box, and what stands around it at the left."""
    page = open_page(reports["night.1"])
    show_all(page)
    item = page.locator("li.answer", has=page.locator("h3", has_text=re.compile("^Arabic ")))
    directions = [
        item.locator(part).evaluate("(one) => getComputedStyle(one).direction")
        for part in (".tokens", ".answer-head", "dl")
    ]
    places = item.locator(".tokens").evaluate(
        """(box) => {
            const at = (place) => box.querySelector(`[data-place="${place}"]`).getBoundingClientRect();
            return [at(0).right > at(3).right, Math.abs(at(0).right - box.getBoundingClientRect().right) < 8];
        }"""
    )

    assert directions == ["rtl", "ltr", "ltr"]
    assert places == [True, True]


def test_letters_join_over_tokens(reports: dict[str, Path], open_page: Open) -> None:
    """Letters, marks and emoji that came in several tokens are as wide as in one piece: they are shaped together."""
    page = open_page(reports["night.1"])
    show_all(page)

    widths = page.evaluate(
        """() => {
            const found = {};
            for (const item of document.querySelectorAll("li.answer")) {
                const name = item.querySelector("h3").textContent.split(" ")[0];
                const box = [...item.querySelectorAll(".tokens")].at(-1);
                if (!["Arabic", "Devanagari", "family", "combining"].includes(name)) continue;
                const spans = [...box.querySelectorAll("[data-place]")].map((one) => one.getBoundingClientRect());
                const split = Math.max(...spans.map((one) => one.right)) - Math.min(...spans.map((one) => one.left));
                const whole = document.createElement("span");
                whole.textContent = box.textContent;
                box.replaceChildren(whole);
                found[name] = [split, whole.getBoundingClientRect().width];
            }
            return found;
        }"""
    )

    assert set(widths) == {"Arabic", "Devanagari", "family", "combining"}
    assert {name: pytest.approx(whole, abs=1) for name, (_, whole) in widths.items()} == {
        name: split for name, (split, _) in widths.items()
    }


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("width", [390, 1440])
def test_hostile_text_stays_within_the_page(reports: dict[str, Path], open_page: Open, run: str, width: int) -> None:
    """Neither a token of a megabyte nor a word of thousands of letters makes the page wider than its window."""
    page = open_page(reports[run], width=width)
    show_all(page)

    assert overflow(page) == 0


@pytest.mark.parametrize("run", RUNS)
def test_no_serious_finding(reports: dict[str, Path], open_page: Open, run: str) -> None:
    """axe-core has nothing serious to say about the hostile report either."""
    page = open_page(reports[run], dark=True)
    show_all(page)

    assert grave_findings(page) == []


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_screenshots_of_hostile_reports(reports: dict[str, Path], open_page: Open, run: str, screenshots: Path) -> None:
    """There are pictures to look at."""
    page = open_page(reports[run])
    show_all(page)

    assert all(path.stat().st_size for path in take_screenshots(page, screenshots, f"hostile {run}"))


def test_every_cell_of_the_data_is_escaped(reports: dict[str, Path]) -> None:
    """In the file itself, nothing of the data looks like markup, so that no reader of HTML can be fooled."""
    for path in reports.values():
        text = path.read_text(encoding="utf-8")
        (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)

        assert not re.search("[<>&]", data)
        contents: dict[str, Any] = json.loads(data)
        assert contents["samples"]
