"""An answer with more tokens than a page of the explorer shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from browser.explorers import exploring
from builders import open_writer
from explorer.explored_store import add_part, answers_table

from logprob_store.schema import completion_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

TOKENS = 4100


def test_all_tokens_of_a_long_answer_are_reached(
    tmp_path: Path, browser: Browser, open_page: Callable[..., Page]
) -> None:
    """By links, which stand in the address, and back."""
    answer: list[tuple[str, float]] = [(f"w{number} ", 0.5) for number in range(TOKENS)]
    with open_writer(tmp_path / "store") as writer:
        add_part(writer, answers_table({0: answer}), 0)
        writer.finish("finished")

    def seen(page: Page) -> Any:
        return page.locator('[aria-label="Tokens of the answer"]').inner_text().split("\n")

    with exploring(tmp_path / "store", browser) as running:
        page = open_page(f"{running.address}?show=r/{completion_id(0)}", cookies=running.cookies)
        page.get_by_text("w3999 ").wait_for()
        assert "tokens 1 to 4,000 of 4,100" in seen(page)
        page.get_by_role("link", name="Later tokens").click()
        page.get_by_text("w4099 ").wait_for()
        assert "tokens 4,001 to 4,100 of 4,100" in seen(page)
        assert "after=4000" in page.url
        page.get_by_role("link", name="Earlier tokens").click()
        page.get_by_text("w3999 ").wait_for()
