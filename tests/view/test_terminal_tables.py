"""Tables on a terminal: what has no room is left out as a whole, and said."""

from __future__ import annotations

import polars as pl
import pytest
from rich.console import Console

from logprob_store.view.terminal_tables import fitted_table

ROWS = pl.DataFrame(
    {
        "prompt_id": ["R-0223", "R-0224"],
        "completion_id": [22300000000, 22400000000],
        "text": ["a long answer " * 20, "🙂" * 80],
        "label": ["undecided", "yes"],
        "p": [0.25, 0.5],
    }
)


def shown_at(width: int | None, frame: pl.DataFrame, **settings: list[str]) -> tuple[str, list[str]]:
    """What a terminal of a width shows of a frame, and the columns left out."""
    table, left_out = fitted_table(frame, width, **settings)
    console = Console(width=width or 100_000)
    with console.capture() as shown:
        console.print(table)
    return shown.get(), left_out


def test_tables_show_markup_as_text() -> None:
    """Square brackets in answers are text, not markup for rich."""
    shown, _ = shown_at(80, pl.DataFrame({"text": ["[red]no[/red] \x1b[31m"], "n": [1]}))

    assert "[red]no[/red] ␛[31m" in shown


@pytest.mark.parametrize("width", [*range(12, 100), 120, 200, None])
def test_no_id_number_or_label_is_cut_short(width: int | None) -> None:
    """Each stands there whole, or its column is left out; no line is longer than the terminal."""
    shown, left_out = shown_at(width, ROWS, least=["completion_id"])

    columns = {name: [str(value) for value in ROWS[name]] for name in ROWS.columns if name != "text"}
    assert [name for name, values in columns.items() if not all(value in shown for value in values)] == [
        name for name in columns if name in left_out
    ]
    assert width is None or max(map(len, shown.splitlines())) <= width


def test_what_matters_least_is_left_out_first() -> None:
    """The columns named, in order, and then the last ones; the first column always stays."""
    assert shown_at(60, ROWS, least=["completion_id"])[1] == []
    assert shown_at(50, ROWS, least=["completion_id"])[1] == ["completion_id"]
    assert shown_at(10, ROWS, least=["label", "completion_id"])[1] == ["label", "completion_id", "p", "text"]


def test_a_text_that_is_cut_short_says_so() -> None:
    """A long answer ends in three dots, and takes what room the others leave."""
    shown, _ = shown_at(60, ROWS)

    assert "a long answ..." in shown


LONG_IDS = pl.DataFrame(
    {
        "prompt_id": ["customers/2026-11-26/europe/0000000223-review"],
        "completion_id": [22300000000],
        "text": ["a long answer"],
        "confidence": [0.1234],
    }
)


@pytest.mark.parametrize("width", [40, 60])
def test_a_long_id_is_folded_where_nothing_else_has_room(width: int) -> None:
    """The text and the confidence stay, and all of the id is there, over several lines."""
    shown, left_out = shown_at(width, LONG_IDS, least=["completion_id", "text"])

    folded = "".join(line.split()[0] for line in shown.splitlines()[2:] if line.strip())
    assert "confidence" not in left_out
    assert "0.1234" in shown
    assert folded.endswith(LONG_IDS["prompt_id"][0])
    assert max(map(len, shown.splitlines())) <= width


def test_an_id_is_whole_where_there_is_room() -> None:
    """People paste it: 45 + 14 + 12 columns, with gaps and a margin, are 74."""
    assert LONG_IDS["prompt_id"][0] in shown_at(74, LONG_IDS, least=["completion_id"])[0]


def test_the_names_of_runs_and_prompts_stay_and_give_way_together() -> None:
    """Of several runs, a row is known by both."""
    several = LONG_IDS.select(pl.lit("nightly-reviews-2026-11-26").alias("run"), pl.all())
    shown, left_out = shown_at(50, several, least=["completion_id", "text"])

    assert left_out == ["completion_id", "text"]
    assert "0.1234" in shown


def test_where_not_even_one_column_fits_it_is_folded() -> None:
    """Nothing of it is lost."""
    shown, _ = shown_at(8, pl.DataFrame({"run": ["nightly-2026-11-26"]}))

    assert "".join(shown.split()).endswith("nightly-2026-11-26")
