"""A small table as HTML, for what a notebook shows of an object: all text in it is only text."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def html_table(rows: Iterable[Sequence[object]], *, header: Sequence[str] = (), caption: str = "") -> str:
    """A table in which numbers stand to the right.

    Args:
        rows: the cells; a float is shown with four digits, None as a dash. The first of a row names it.
        header: names of the columns; none when empty.
        caption: a line above the table.

    >>> html_table([("<b>", 0.123456, None)])
    '<table><tbody><tr><th scope="row" style="text-align: left">&lt;b&gt;</th>\
<td style="text-align: right">0.1235</td><td style="text-align: right">-</td></tr></tbody></table>'
    """
    above = f'<caption style="text-align: left">{escape(caption)}</caption>' if caption else ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = "".join(f"<tr>{''.join(_cells(row))}</tr>" for row in rows)
    return f"<table>{above}{f'<thead><tr>{head}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>"


def _cells(row: Sequence[object]) -> list[str]:
    first, *others = row
    cells = [f'<th scope="row" style="text-align: left">{escape(_shown(first))}</th>']
    return cells + [
        f'<td style="text-align: {"left" if isinstance(value, str) else "right"}">{escape(_shown(value))}</td>'
        for value in others
    ]


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
