"""What is read from a file: one JSON value, or one event of a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from logprob_store.importing.raw_json import RawObject

DONE: Final = b"[DONE]"
"""The data of the event that ends a stream."""


class SourceItem(NamedTuple):
    """One JSON value as it stands in a file, one event of a stream, or what could not be read.

    Args:
        line: the line it starts on, counted from 1.
        content: its bytes; of an event all its lines.
        element: its place in the list that begins on that line, counted from 0.
        data: the data of an event; None for anything else.
        raw: the values of an object by key, if they are known.
        problem: why it could not be read.
        is_unknown_format: whether the problem is about the whole file.
        member: the name of the file inside an archive.
    """

    line: int
    content: bytes
    element: int | None = None
    data: bytes | None = None
    raw: RawObject | None = None
    problem: str | None = None
    is_unknown_format: bool = False
    member: str | None = None

    @property
    def place(self) -> str:
        """Member, line and element, as messages and ids have them.

        >>> SourceItem(3, b"").place, SourceItem(3, b"", 0).place, SourceItem(1, b"", member="a.json").place
        ('3', '3[0]', 'a.json:1')
        """
        place = f"{self.line}" if self.element is None else f"{self.line}[{self.element}]"
        return place if self.member is None else f"{self.member}:{place}"

    @property
    def is_done_mark(self) -> bool:
        """Whether it is the `[DONE]` that ends a stream."""
        return self.raw is None and (self.content if self.data is None else self.data).strip() == DONE
