"""Which labels a text spells or may become, whatever its case, its form, and the white space and quotes around it.

How one text is written in many ways is in `written_forms`, where in an answer to look in `location`, and the
probabilities are in `probabilities`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from logprob_store.metrics.labels.written_forms import (
    cut_characters,
    ends_within_escape,
    one_form,
    without_escapes,
    without_vocabulary_spelling,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

Difference: TypeAlias = Literal["space", "case", "quotes", "form"]
Labels: TypeAlias = "Sequence[str] | Mapping[str, Sequence[str]]"

ALL_DIFFERENCES: Final = get_args(Difference)
_QUOTES: Final = "\"'`*_#([{\u00ab\u2039\u300c\u300e\u3008\u300a\u3010\u201e"
"""What may stand before a label: quotes, brackets and Markdown. Curly quotes are made straight first."""
_STRAIGHT: Final = dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u02bc"), "'") | dict.fromkeys(
    map(ord, "\u201c\u201d\u201f"), '"'
)
_SPACES: Final = re.compile(r"\s+")
_JOINERS: Final = "-_'\u2019"
"""Between two letters, these make one word of them: no-one, isn't."""
_WITHIN_NUMBER: Final = ".,:\u2012\u2013"
"""Between two digits, these make one number or one range of them: 4.5 and 4\u20135 are not 4."""
_NO_FRACTION: Final = re.compile(r"[.,]0{1,2}(?!\d)")
"""4.0 is 4, and so is 4,0."""
_EMOJI_GOES_ON: Final = "\u200d"
"""Joins two emoji to another one."""


class _After(Enum):
    """What a text has behind a label."""

    END = "a sign or a space, which ends the label"
    MORE = "more of the same word or number, which makes another of it"
    OPEN = "nothing yet, or what may still be either"


@dataclass(frozen=True, slots=True)
class Match:
    """Which labels a text spells or may become, by their numbers.

    Attributes:
        spelled: the label that it spells, None where it spells none.
        possible: the labels that it may become, `spelled` among them; all labels for a blank text.
        blank: whether there is only white space or an opening quote, or the first bytes of one.
        ended: whether something behind the label that it spells says that its word does not go on.
    """

    spelled: int | None = None
    possible: frozenset[int] = frozenset()
    blank: bool = False
    ended: bool = False

    @property
    def undecided(self) -> bool:
        """Whether it may still become a label other than the one that it spells."""
        return bool(self.possible - {self.spelled})

    @property
    def may_go_on(self) -> bool:
        """Whether what comes next decides which label it is, or whether it is one at all."""
        return self.undecided or (self.spelled is not None and not self.ended)


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
        self._label_of: dict[str, int] = {}  # by form
        self._labels_from: dict[str, set[int]] = {}  # by proper beginning of a form
        for number, name in enumerate(self.names):
            for spelling in labels[name] if isinstance(labels, Mapping) else [name]:
                self._add(number, spelling)
        skipped = (" \n\t\r\u00a0\u3000" if "space" in self._ignore else "") + (
            _QUOTES + "".join(map(chr, _STRAIGHT)) if "quotes" in self._ignore else ""
        )
        self._blank = {begun for _, begun in cut_characters(skipped)}
        self._longest_first = sorted(self._label_of, key=len, reverse=True)

    def _add(self, number: int, spelling: str) -> None:
        form = self._form(spelling)
        form = form.rstrip() if "space" in self._ignore else form
        if not form:
            raise ValueError(f"label {self.names[number]!r} has an empty spelling: {spelling!r}")
        other = self._label_of.setdefault(form, number)
        if other != number:
            raise ValueError(
                f"labels {self.names[other]!r} and {self.names[number]!r} collide: both are spelled {spelling!r} "
                f"when {', '.join(sorted(self._ignore)) or 'nothing'} is ignored; rename one, or ignore less"
            )
        beginnings = {form[:length] for length in range(len(form))}
        composed, decomposed = (unicodedata.normalize(form, spelling) for form in ("NFC", "NFD"))
        for written in {spelling, decomposed, composed, composed.lower(), composed.upper()}:
            beginnings |= {self._form(before) + begun for before, begun in cut_characters(written)}
        for beginning in beginnings - {form}:
            self._labels_from.setdefault(beginning, set()).add(number)

    def _form(self, text: str) -> str:
        """The text without the differences in `ignore`, but for a space at its end."""
        space = "space" in self._ignore
        if "form" in self._ignore:
            text = one_form(text)
        if space:
            text = _SPACES.sub(" ", text).lstrip()
        if "quotes" in self._ignore:
            text = text.translate(_STRAIGHT).lstrip(_QUOTES + (" " if space else ""))
        if "case" in self._ignore:
            # Turkish has two letters i, of which each is the capital or the small one of the other's elsewhere.
            text = text.casefold().replace("i\u0307", "i").replace("\u0131", "i")
        return text

    def match(self, text: bytes) -> Match:
        """The labels that a text spells or may become. A label with a sign or a space after it is still that label.

        JSON escapes are read, as nearly every backslash behind the beginning of a label begins one. A text that then
        fits no label is tried as the spelling of a vocabulary.
        """
        unescaped = without_escapes(text)
        found = self._matched(text if unescaped is None else unescaped)
        if not found.possible and (plain := without_vocabulary_spelling(text)) is not None:
            unescaped = without_escapes(plain)
            found = self._matched(plain if unescaped is None else unescaped)
        return found

    def _matched(self, text: bytes) -> Match:
        """`match` for a text that is written in plain letters."""
        form = self._form(text.decode("utf-8", "surrogateescape"))
        if not form or form in self._blank:
            return Match(possible=frozenset(range(len(self.names))), blank=True)
        possible = frozenset(self._labels_from.get(form, ()))
        for label in self._longest_first:
            if form.startswith(label) and (after := _what_is_after(label, form[len(label) :])) is not _After.MORE:
                spelled = self._label_of[label]
                return Match(spelled, possible | {spelled}, ended=after is _After.END)
        return Match(possible=possible)

    def quoted(self, numbers: Iterable[int]) -> str:
        """The names of labels for a message."""
        return " and ".join(repr(self.names[number]) for number in sorted(numbers))


def _what_is_after(label: str, rest: str) -> _After:
    """Whether the word or the number of a label goes on in the rest of the text.

    >>> [_what_is_after("no", rest).name for rest in ("", ".", "thing", "-one", "-", "_", "* ")]
    ['OPEN', 'END', 'MORE', 'MORE', 'OPEN', 'OPEN', 'END']
    >>> [_what_is_after("4", rest).name for rest in (".", ".5", ". So", "/5", ".0 ", "\u20135", "\u2013 a")]
    ['OPEN', 'MORE', 'END', 'END', 'END', 'MORE', 'END']
    """
    last = label[-1]
    if not _is_of_word(last):
        return _After.MORE if rest.startswith(_EMOJI_GOES_ON) else _After.END
    if last.isdecimal() and (fraction := _NO_FRACTION.match(rest)):
        rest = rest[fraction.end() :]
    behind = rest.lstrip("_")
    joined = behind[:1] in {*_JOINERS} or (last.isdecimal() and behind[:1] in {*_WITHIN_NUMBER})
    if joined and behind:
        number = behind[0] in _WITHIN_NUMBER
        behind = behind[1:]
        if behind and number and not behind[0].isdecimal():
            return _After.END
    if not behind or "\udc80" <= behind[0] <= "\udcff" or ends_within_escape(behind):
        return _After.OPEN
    return _After.MORE if _is_of_word(behind[0]) else _After.END


def _is_of_word(letter: str) -> bool:
    """Whether a word goes on with it: a letter, a digit, or a mark such as an accent."""
    return letter.isalnum() or unicodedata.category(letter).startswith("M")


def _check_spellings(labels: Mapping[str, Sequence[str]]) -> None:
    """Check that each label has a list of spellings, with at least one."""
    for name, spellings in labels.items():
        if isinstance(spellings, str):
            raise ValueError(f"the spellings of label {name!r} are one text, {spellings!r}; give a list")  # noqa: TRY004  a string is a sequence, too
        if not spellings:
            raise ValueError(f"label {name!r} has no spelling; name it in its own list")
