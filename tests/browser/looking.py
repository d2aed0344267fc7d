"""What tests look at in a page: findings of axe-core, screenshots, widths, and the text that is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from axe_playwright_python.sync_playwright import Axe

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

GRAVE = {"serious", "critical"}
WIDTHS = (390, 1440)
"""CSS pixels: a telephone and a desk."""


def grave_findings(page: Page) -> list[str]:
    """The serious and critical findings of axe-core, each with the first elements that it is about."""
    response: dict[str, Any] = Axe().run(page).response
    return [
        f"{finding['id']} ({finding['impact']}): {node['target']} {node['html'][:200]} {node.get('failureSummary', '')}"
        for finding in response["violations"]
        if finding["impact"] in GRAVE
        for node in finding["nodes"][:5]
    ]


def take_screenshots(page: Page, folder: Path, name: str) -> list[Path]:
    """Photograph the whole page at both widths, in light and in dark: `NAME-390-light.png` and so on."""
    taken = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            taken.append(folder / f"{name}-{width}-{scheme}.png")
            page.screenshot(path=taken[-1], full_page=True)
    return taken


def overflow(page: Page) -> int:
    """How many CSS pixels the page is wider than its window: 0 where nobody has to scroll sideways."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def tags(page: Page) -> dict[str, int]:
    """How many elements of each tag the page has, which text that became markup would change."""
    counted: dict[str, int] = page.evaluate(
        """() => {
            const counts = {};
            for (const element of document.querySelectorAll("*")) {
                const tag = element.localName;
                counts[tag] = (counts[tag] ?? 0) + 1;
            }
            return counts;
        }"""
    )
    return counted
