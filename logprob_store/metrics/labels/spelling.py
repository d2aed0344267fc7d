"""Which labels a text spells or may become, whatever its case and the white space and quotes around it.

Where in an answer to look is in `location`, the probabilities are in `probabilities`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

Difference: TypeAlias = Literal["space", "case", "quotes"]
Labels: TypeAlias = "Sequence[str] | Mapping[str, Sequence[str]]"

ALL_DIFFERENCES: Final = get_args(Difference)
_QUOTES: Final = "\"'`*_([{\u201c\u2018\u201e\u00ab"
_WORD_GOES_ON: Final = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class Match:
    """Which labels a text spells or may become, by their numbers.

    Attributes:
        spelled: the label that it spells, None where it spells none.
        possible: the labels that it may become, `spelled` among them; all labels for a blank text.
        blank: whether there is only white space or an opening quote.
    """

    spelled: int | None = None
    possible: frozenset[int] = frozenset()
    blank: bool = False

    @property
    def undecided(self) -> bool:
        """Whether it may still become a label other than the one that it spells."""
        return bool(self.possible - {self.spelled})


class Spellings:
    """All spellings of the labels, and which label a text matches.

    >>> spellings = Spellings(["Politics", "Sports", "Spa"])
    >>> spellings.match(b' "sports').spelled, spellings.match(b"Polit").possible
    (1, frozenset({0}))
    >>> sorted(spellings.match(b"Sp").possible)
    [1, 2]
    """

    def __init__(self, labels: Labels, ignore: Collection[str] = ALL_DIFFERENCES) -> None:
        """Take the labels, or the spellings of each label.

        Raises:
            ValueError: there are no labels, one is empty or has no spelling, two have the same spelling, or a name in
                `ignore` is unknown.
        """
        if isinstance(labels, str):
            raise ValueError(f"labels {labels!r} is one text; give a list")  # noqa: TRY004  a string is a sequence, too
        self.names = list(labels)
        self._ignore = frozenset(ignore)
        if unknown := self._ignore.difference(ALL_DIFFERENCES):
            raise ValueError(f"ignore {', '.join(sorted(unknown))} is none of {', '.join(ALL_DIFFERENCES)}")
        if not self.names:
            raise ValueError("there are no labels")
        if isinstance(labels, Mapping):
            _check_spellings(labels)
        self._label_of: dict[bytes, int] = {}  # by normalised spelling
        for number, name in enumerate(self.names):
            for spelling in labels[name] if isinstance(labels, Mapping) else [name]:
                self._add(number, spelling)
        self._labels_from: dict[bytes, set[int]] = {}  # by proper beginning of a normalised spelling
        for form, number in self._label_of.items():
            for beginning in [b"", *accumulate(bytes([byte]) for byte in form[:-1])]:
                self._labels_from.setdefault(beginning, set()).add(number)

    def _add(self, number: int, spelling: str) -> None:
        form = self.normalised(spelling.encode())
        if not form:
            raise ValueError(f"label {self.names[number]!r} has an empty spelling: {spelling!r}")
        other = self._label_of.setdefault(form, number)
        if other != number:
            raise ValueError(
                f"labels {self.names[other]!r} and {self.names[number]!r} collide: both are spelled {spelling!r} "
                f"when {', '.join(sorted(self._ignore)) or 'nothing'} is ignored; rename one, or ignore less"
            )

    def normalised(self, text: bytes) -> bytes:
        """The text without the differences in `ignore`."""
        found = text.decode("utf-8", "surrogateescape")
        if "space" in self._ignore:
            found = found.lstrip()
        if "quotes" in self._ignore:
            found = found.lstrip(_QUOTES + (" \t\r\n" if "space" in self._ignore else ""))
        if "space" in self._ignore:
            found = found.rstrip()
        if "case" in self._ignore:
            found = found.lower()
        return found.encode("utf-8", "surrogateescape")

    def match(self, text: bytes) -> Match:
        """The labels that a text spells or may become. A label with a sign or a space after it is still that label."""
        form = self.normalised(text)
        if not form:
            return Match(possible=frozenset(range(len(self.names))), blank=True)
        spelled = self._label_of.get(form)
        if spelled is None and form not in self._labels_from:
            spelled = self._ended_label(form)
            return Match(spelled, frozenset(() if spelled is None else (spelled,)))
        possible = self._labels_from.get(form, set())
        return Match(spelled, frozenset(possible | (set() if spelled is None else {spelled})))

    def _ended_label(self, form: bytes) -> int | None:
        """The longest label that the text begins with, unless its word goes on after it."""
        fits = (spelling for spelling in self._label_of if form.startswith(spelling))
        longest = max(fits, key=len, default=None)
        if longest is None or _WORD_GOES_ON.match(form[len(longest) :].decode("utf-8", "replace")):
            return None
        return self._label_of[longest]

    def known_texts(self) -> list[tuple[bytes, Match]]:
        """Every normalised text that spells or begins a label, with its match."""
        return [(text, self.match(text)) for text in {**self._labels_from, **self._label_of} if text]

    def quoted(self, numbers: Iterable[int]) -> str:
        """The names of labels for a message."""
        return " and ".join(repr(self.names[number]) for number in sorted(numbers))


def _check_spellings(labels: Mapping[str, Sequence[str]]) -> None:
    """Check that each label has a list of spellings, with at least one."""
    for name, spellings in labels.items():
        if isinstance(spellings, str):
            raise ValueError(f"the spellings of label {name!r} are one text, {spellings!r}; give a list")  # noqa: TRY004  a string is a sequence, too
        if not spellings:
            raise ValueError(f"label {name!r} has no spelling; name it in its own list")
