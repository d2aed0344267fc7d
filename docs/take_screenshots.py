"""Photograph the report of the demo for the README: `.venv/bin/python docs/take_screenshots.py`, after `make demo`.

Needs Chromium. Writes docs/images/report-light.png and report-dark.png.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
SIZE = {"width": 1100, "height": 1180}


def main() -> None:
    """Open the report of the demo, pin a token, and photograph it in both colour schemes."""
    report = (ROOT / "out/report.html").as_uri()
    with sync_playwright() as playwright:
        program = shutil.which("chromium") or shutil.which("chromium-headless-shell")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport=SIZE, color_scheme=scheme)
            page.goto(report)
            page.locator(".tokens .t").nth(2).click()
            page.evaluate("document.querySelector('#truth-title').scrollIntoView({ behavior: 'instant' })")
            page.screenshot(path=ROOT / f"docs/images/report-{scheme}.png")
        browser.close()


if __name__ == "__main__":
    main()
