"""Which label a text spells, begins or may begin, whatever its case, the white space and the quotes around it.

Leaves out probabilities (`labels`) and where to look (`places`).
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
_GOES_ON: Final = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text is to the labels, by their numbers.

    Attributes:
        whole: the label that it spells.
        may: the labels that it may become, `whole` among them; all of them where nothing was said yet.
        blank: whether nothing was said yet: only white space or an opening quote.
    """

    whole: int | None = None
    may: frozenset[int] = frozenset()
    blank: bool = False

    @property
    def open(self) -> bool:
        """Whether what follows decides: more than a whole label and nothing else."""
        return bool(self.may - {self.whole})


class Spelling:
    """How labels are spelled.

    >>> spelling = Spelling(["Politics", "Sports", "Spa"])
    >>> spelling.read(b' "sports').whole, spelling.read(b"Polit").may, sorted(spelling.read(b"Sp").may)
    (1, frozenset({0}), [1, 2])
    """

    def __init__(self, labels: Labels, ignore: Collection[str] = ALL_DIFFERENCES) -> None:
        """Take the labels, or each label's spellings.

        Raises:
            ValueError: no labels, an empty one, one without spellings, two that are spelled alike, or a difference that
                there is not.
        """
        if isinstance(labels, str):
            raise ValueError(f"labels {labels!r} is one text; give a list")  # noqa: TRY004  a text is a sequence, too
        self.names = list(labels)
        self._ignore = frozenset(ignore)
        if unknown := self._ignore.difference(ALL_DIFFERENCES):
            raise ValueError(f"ignore {', '.join(sorted(unknown))} is none of {', '.join(ALL_DIFFERENCES)}")
        if not self.names:
            raise ValueError("there are no labels")
        if isinstance(labels, Mapping):
            _check_spellings(labels)
        self._forms: dict[bytes, int] = {}
        for number, name in enumerate(self.names):
            for spelled in labels[name] if isinstance(labels, Mapping) else [name]:
                self._add(number, spelled)
        self._begins: dict[bytes, set[int]] = {}
        for form, number in self._forms.items():
            for beginning in [b"", *accumulate(bytes([byte]) for byte in form[:-1])]:
                self._begins.setdefault(beginning, set()).add(number)

    def _add(self, number: int, spelled: str) -> None:
        form = self.plain(spelled.encode())
        if not form:
            raise ValueError(f"label {self.names[number]!r} has an empty spelling: {spelled!r}")
        other = self._forms.setdefault(form, number)
        if other != number:
            raise ValueError(
                f"labels {self.names[other]!r} and {self.names[number]!r} collide: both are spelled {spelled!r} "
                f"when {', '.join(sorted(self._ignore)) or 'nothing'} is ignored; rename one, or ignore less"
            )

    def plain(self, text: bytes) -> bytes:
        """The text without the differences that do not matter."""
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

    def read(self, text: bytes) -> Reading:
        """What a text is to the labels; one that a sign or a space ends stays the label."""
        plain = self.plain(text)
        if not plain:
            return Reading(may=frozenset(range(len(self.names))), blank=True)
        whole = self._forms.get(plain)
        if whole is None and plain not in self._begins:
            whole = self._ended(plain)
            return Reading(whole, frozenset(() if whole is None else (whole,)))
        # White space behind a whole label ends its word.
        may = self._begins.get(plain, set())
        return Reading(whole, frozenset(may | (set() if whole is None else {whole})))

    def _ended(self, plain: bytes) -> int | None:
        fits = (form for form in self._forms if plain.startswith(form))
        form = max(fits, key=len, default=None)
        if form is None or _GOES_ON.match(plain[len(form) :].decode("utf-8", "replace")):
            return None
        return self._forms[form]

    def known(self) -> list[tuple[bytes, Reading]]:
        """Every text that spells or begins a label, without the differences that do not matter."""
        return [(text, self.read(text)) for text in {**self._begins, **self._forms} if text]

    def named(self, numbers: Iterable[int]) -> str:
        """Labels in words."""
        return " and ".join(repr(self.names[number]) for number in sorted(numbers))


def _check_spellings(labels: Mapping[str, Sequence[str]]) -> None:
    """That each label has a list of spellings, one at least."""
    for name, spellings in labels.items():
        if isinstance(spellings, str):
            raise ValueError(f"the spellings of label {name!r} are one text, {spellings!r}; give a list")  # noqa: TRY004  a text is a sequence, too
        if not spellings:
            raise ValueError(f"label {name!r} has no spelling; name it in its own list")
