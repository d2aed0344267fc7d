"""Tables on a terminal."""

from __future__ import annotations

import polars as pl
from rich.console import Console

from logprob_store.view.terminal_tables import frame_table


def test_tables_show_markup_as_text() -> None:
    """Square brackets in answers are text, not markup for rich."""
    console = Console(width=80)
    with console.capture() as shown:
        console.print(frame_table(pl.DataFrame({"text": ["[red]no[/red] \x1b[31m"], "n": [1]})))

    assert "[red]no[/red] ␛[31m" in shown.get()
