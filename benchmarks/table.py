"""The benchmark's table: what was measured beside what is wanted, for the terminal and for the documentation.

Holds a row, its verdict, and the two ways of writing it. Leaves out measuring.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

BEGIN: Final = "<!-- make bench: begin -->"
END: Final = "<!-- make bench: end -->"
_MANY: Final = 100


class Row(NamedTuple):
    """One figure; `goal` is the least that is wanted, or the most with `at_most`, or None."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    at_most: bool = False
    note: str = ""
    digits: int = 2

    @property
    def verdict(self) -> str:
        """Whether the goal is met.

        >>> Row("a", 5.0, "x", 6).verdict, Row("a", 5.0, "s", 6, at_most=True).verdict, Row("a", 5.0, "s").verdict
        ('missed', 'met', '')
        """
        if self.goal is None:
            return ""
        met = self.value <= self.goal if self.at_most else self.value >= self.goal
        return "met" if met else "missed"

    def cells(self) -> list[str]:
        """The row as text."""
        value = f"{self.value:,.0f}" if self.value >= _MANY else f"{self.value:.{self.digits}f}"
        goal = "" if self.goal is None else f"{'at most' if self.at_most else 'at least'} {self.goal:g}"
        return [self.name, f"{value} {self.unit}", goal, self.verdict, self.note]


HEADINGS: Final = ["what", "today", "goal", "", "in figures"]


def as_markdown(rows: Iterable[Row], machine: Mapping[str, str]) -> str:
    """The table as it stands in the documentation."""
    lines = ["| " + " | ".join(cells) + " |" for cells in [HEADINGS, *(row.cells() for row in rows)]]
    lines.insert(1, "|---|---|---|---|---|")
    said = ", ".join(f"{name} {value}" for name, value in machine.items())
    return f"Measured with {said}.\n\n" + "\n".join(lines) + "\n"


def as_text(row: Row) -> str:
    """One line for the terminal."""
    name, value, goal, verdict, note = row.cells()
    return f"{name:<44} {value:>20}   {goal:<14} {verdict:<7} {note}".rstrip()


def write_between_markers(page: Path, table: str) -> None:
    """Replace what stands between the markers of a page.

    Raises:
        ValueError: the page has no markers.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page}: there are no lines {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{table}\n{END}{after}", encoding="utf-8")
