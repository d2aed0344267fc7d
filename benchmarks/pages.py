"""How large a page is and how soon it is there, in a real browser.

    python benchmarks/pages.py report.html [ANOTHER.html | http://127.0.0.1:PORT/...] ...

opens each page seven times, each time in a fresh window, and prints medians: the size, milliseconds until something is
painted, until the document is ready for use and until it is loaded, and how many elements it has then. Needs Debian's
chromium and an idle machine.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROUNDS: Final = 7
WINDOW: Final = {"width": 1440, "height": 900}
TIMES: Final = """async () => {
    const paint = await new Promise((resolve) => {
        new PerformanceObserver((list) => {
            for (const one of list.getEntries()) if (one.name === "first-contentful-paint") resolve(one.startTime);
        }).observe({ type: "paint", buffered: true });
    });
    const load = performance.getEntriesByType("navigation")[0];
    return [paint, load.domInteractive, load.loadEventEnd, document.querySelectorAll("*").length];
}"""


def opened(browser: Browser, address: str) -> list[float]:
    """First paint, ready and loaded, in milliseconds, and the number of elements, of one visit."""
    context = browser.new_context(viewport=WINDOW)
    page = context.new_page()
    page.goto(address, wait_until="load")
    figures: list[float] = page.evaluate(TIMES)
    context.close()
    return figures


def main() -> int:
    """Measure each page, and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="+", help="files or addresses")
    pages = parser.parse_args().pages
    program = shutil.which("chromium") or shutil.which("chromium-headless-shell")
    if program is None:
        print("no chromium on the PATH: apt-get install chromium", file=sys.stderr)
        return 2
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        opened(browser, "data:text/html,<p>warm</p>")
        for given in pages:
            address = given if "://" in given else Path(given).absolute().as_uri()
            size = "" if "://" in given else f"{Path(given).stat().st_size / 1e6:.2f} MB, "
            paint, ready, loaded, elements = map(
                median, zip(*(opened(browser, address) for _ in range(ROUNDS)), strict=True)
            )
            print(
                f"{given}: {size}painted after {paint:.0f} ms, ready {ready:.0f} ms, loaded {loaded:.0f} ms, "
                f"{elements:,.0f} elements"
            )
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
