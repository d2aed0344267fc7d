"""Numbers with their nouns, and lists of names with the number of those left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_RUNS_LISTED: Final = 8


def counted(number: int, noun: str, *, commas: bool = False) -> str:
    """A number of things.

    Args:
        number: how many.
        noun: the word for one of them.
        commas: whether thousands have commas between.

    >>> counted(1, "problem"), counted(0, "problem"), counted(2, "batch"), counted(1200, "call", commas=True)
    ('1 problem', '0 problems', '2 batches', '1,200 calls')
    """
    ending = "" if number == 1 else "es" if noun.endswith("ch") else "s"
    return f"{number:{',' if commas else ''}} {noun}{ending}"


def listed_runs(names: Sequence[str]) -> str:
    """The last of some runs' names, and how many more there are.

    >>> listed_runs(["mon", "tue"]), listed_runs([f"n{night}" for night in range(1, 11)])
    ('mon, tue', 'n3, n4, n5, n6, n7, n8, n9, n10, and 2 more')
    """
    more = len(names) - _RUNS_LISTED
    return ", ".join(names[-_RUNS_LISTED:]) + (f", and {more} more" if more > 0 else "")


def shown_size(size: int) -> str:
    """A number of bytes.

    >>> shown_size(999), shown_size(12_345), shown_size(1_234_567)
    ('999 bytes', '12.3 kB', '1.2 MB')
    """
    if size < 1000:  # noqa: PLR2004  a kilobyte
        return counted(size, "byte")
    return f"{size / 1e3:.1f} kB" if size < 1e6 else f"{size / 1e6:.1f} MB"  # noqa: PLR2004  a megabyte


def rows_in_words(completions: int, tokens: int, decisions: int) -> str:
    """What a run has rows of: completions with their tokens, or with the decisions that they are.

    >>> rows_in_words(2, 9, 0), rows_in_words(1, 0, 4)
    ('2 completions with 9 tokens', '1 completion with 4 decisions')
    """
    held = counted(decisions, "decision") if decisions else counted(tokens, "token")
    return f"{counted(completions, 'completion')} with {held}"
