r"""Where the values of a JSON text stand in it, by bytes: an iterative scanner for whole and truncated JSON.

Holds the grammar of RFC 8259 as a few regular expressions, and RFC 6901 paths. Parsers give values without places,
which is why this is here. Leaves out tokens and logprobs (`fields`).

Nothing recurses, so depth is bounded by memory alone; the time is linear in the text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Final, NamedTuple

_INNER: Final = rb'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+'
_STRING: Final = rb'"' + _INNER + rb'"'
_NUMBER: Final = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?"
_SPACE: Final = rb"[ \t\n\r]*+"
_SCALAR: Final = rb"(" + _STRING + rb")|(" + _NUMBER + rb")|(true|false)|(null)"
_VALUE: Final = re.compile(_SPACE + rb"(?:" + _SCALAR + rb"|(\{" + _SPACE + rb"\})|(\[" + _SPACE + rb"\])|(\{)|(\[))")
_KEY: Final = re.compile(_SPACE + rb"(" + _STRING + rb")" + _SPACE + rb":")
_ELEMENT: Final = re.compile(_SPACE + rb"(?:" + _SCALAR + rb")" + _SPACE + rb",")
_MEMBER: Final = re.compile(
    _ELEMENT.pattern.replace(_SPACE, _SPACE + rb"(?P<key>" + _STRING + rb")" + _SPACE + rb":" + _SPACE, 1)
)
_AFTER: Final = re.compile(_SPACE + rb"(?:(,)|([}\]]))")
_SPACES: Final = re.compile(_SPACE)

_FENCE: Final = re.compile(rb"```[ \t]*(?:json|JSON)[a-zA-Z0-9]*[ \t]*\r?\n?|```[ \t]*\r?\n")
_FENCE_END: Final = re.compile(_SPACE + rb"(?:```|\Z)")
_BRACKET: Final = re.compile(rb"[{\[]")

_CUT_STRING: Final = re.compile(rb'"' + _INNER + rb"(?:\\(?:u[0-9a-fA-F]{0,3})?)?\Z")
_CUT_NUMBER: Final = re.compile(rb"-?(?:(?:0|[1-9][0-9]*+)(?:\.[0-9]*+)?(?:(?<=[0-9])[eE][+-]?[0-9]*+)?)?\Z")
_NAMED: Final = re.compile(_STRING + _SPACE)
_CONTINUED: Final = frozenset({b".", b"e", b"E"})
"""What may follow the beginning of a number, and no number."""

_KINDS: Final = ("", "string", "number", "boolean", "null", "object", "array")
_NUMBER_KIND, _EMPTY_ARRAY, _OPEN_OBJECT = 2, 6, 7
_WORDS: Final = {b"true": "boolean", b"false": "boolean", b"null": "null"}

_LONGEST_PATHS: Final = 1 << 24
"""Bytes of all paths of one text together: they are as long as the text is deep, and it may be all depth."""


class Leaf(NamedTuple):
    """A value that holds no other: scalars, `{}` and `[]`; `begin` and `end` are of all that is written, with quotes.

    `complete` is False where the text ends before, or where, the value does.
    """

    path: str
    kind: str
    begin: int
    end: int
    complete: bool = True


@dataclass(slots=True)
class Scan:
    """What a scan found: the leaves in order, where it ended, and how.

    `truncated`: the text ends before the value does. `error`: what was expected, where it is not JSON; the leaves
    before it are then of no document. `refused`: it may be JSON, but is too deep to say so.
    """

    end: int = 0
    leaves: list[Leaf] = field(default_factory=list)
    truncated: bool = False
    error: str | None = None
    refused: bool = False


class _Scanner:
    """A scan under way: the containers around the place, and the path to it."""

    def __init__(self, text: bytes, at: int) -> None:
        self.text = text
        self.scan = Scan(at)
        # For each open container: -1 for an object, else the index of the array's element.
        self.counts: list[int] = []
        self.names: list[str] = []
        self.path_bytes = 0

    def run(self) -> Scan:
        more = True
        while more:
            more = self.value()
            if self.path_bytes > _LONGEST_PATHS:
                self.scan.error = f"byte {self.scan.end}: so deep that the paths of its values fill the memory"
                self.scan.refused, more = True, False
        return self.scan

    def path(self) -> str:
        found = "".join(self.names)
        self.path_bytes += len(found)
        return found

    def value(self) -> bool:
        """Take a value, and what follows up to the next; False where there is none."""
        scan, text = self.scan, self.text
        found = _VALUE.match(text, scan.end)
        kind = 0 if found is None else found.lastindex or 0
        if found is None or (kind == _NUMBER_KIND and text[found.end() : found.end() + 1] in _CONTINUED):
            return self.no_value()
        scan.end = found.end()
        if kind > _EMPTY_ARRAY:
            self.counts.append(-1 if kind == _OPEN_OBJECT else 0)
            self.names.append("/0")
            return self.members() if kind == _OPEN_OBJECT else self.elements()
        # A number that the text ends with may go on, unless it is all there is.
        whole = kind != _NUMBER_KIND or scan.end < len(text) or not self.counts
        scan.leaves.append(Leaf(self.path(), _KINDS[kind], found.start(kind), scan.end, whole))
        return self.after()

    def after(self) -> bool:
        """Go past what closes, to the next value."""
        scan, counts = self.scan, self.counts
        while counts:
            found = _AFTER.match(self.text, scan.end)
            closes = b"}" if counts[-1] < 0 else b"]"
            if found is None or (found[2] or closes) != closes:
                return self.stop(f"a comma or {closes.decode()}")
            scan.end = found.end()
            if found[1]:
                counts[-1] += counts[-1] >= 0
                return self.members() if counts[-1] < 0 else self.elements()
            counts.pop()
            self.names.pop()
        return False

    def members(self) -> bool:
        """Take the next members of an object that are scalars, and the key of the one that is not or is the last."""
        scan, text = self.scan, self.text
        prefix = None
        while self.path_bytes <= _LONGEST_PATHS and (found := _MEMBER.match(text, scan.end)) is not None:
            prefix = "".join(self.names[:-1]) if prefix is None else prefix
            path = prefix + _name(found[1])
            self.path_bytes += len(path)
            kind = found.lastindex or 0
            scan.leaves.append(Leaf(path, _KINDS[kind - 1], found.start(kind), found.end(kind)))
            scan.end = found.end()
        found = _KEY.match(text, scan.end)
        if found is not None:
            self.names[-1] = _name(found[1])
            scan.end = found.end()
            return True
        scan.end = _behind_spaces(text, scan.end)
        if _CUT_STRING.match(text, scan.end):
            scan.truncated, scan.end = True, len(text)
            return False
        named = _NAMED.match(text, scan.end)
        scan.end = scan.end if named is None else named.end()
        return self.stop("a key in double quotes" if named is None else "a colon")

    def elements(self) -> bool:
        """Take the next elements of an array that are scalars and not the last."""
        scan, text = self.scan, self.text
        index, prefix = self.counts[-1], None
        while self.path_bytes <= _LONGEST_PATHS and (found := _ELEMENT.match(text, scan.end)) is not None:
            prefix = "".join(self.names[:-1]) if prefix is None else prefix
            path = f"{prefix}/{index}"
            self.path_bytes += len(path)
            kind = found.lastindex or 0
            scan.leaves.append(Leaf(path, _KINDS[kind], found.start(kind), found.end(kind)))
            scan.end = found.end()
            index += 1
        self.counts[-1], self.names[-1] = index, f"/{index}"
        return True

    def no_value(self) -> bool:
        """The text ends within a value, or has none here."""
        scan, text = self.scan, self.text
        begin = scan.end = _behind_spaces(text, scan.end)
        rest = text[begin : begin + 5]
        kind = None
        if rest.startswith(b'"'):
            kind = "string" if _CUT_STRING.match(text, begin) else None
        elif self.counts and rest:
            kind = next((kind for word, kind in _WORDS.items() if word.startswith(rest)), None)
            kind = "number" if _CUT_NUMBER.match(text, begin) else kind
        if kind is None:
            return self.stop("a value")
        # Of a string that has but its quote nothing was said yet.
        if text[begin:] != b'"':
            scan.leaves.append(Leaf(self.path(), kind, begin, len(text), complete=False))
        scan.truncated, scan.end = True, len(text)
        return False

    def stop(self, expected: str) -> bool:
        """Neither a value nor its end is here: the text ends, or is no JSON."""
        scan = self.scan
        scan.end = _behind_spaces(self.text, scan.end)
        if scan.end == len(self.text):
            scan.truncated = True
        else:
            scan.error = f"byte {scan.end}: {expected} was expected"
        return False


def scan_json(text: bytes, at: int = 0) -> Scan:
    r"""The leaves of the JSON value that begins at `at`, white space before it aside; what follows it is not looked at.

    >>> for leaf in scan_json(b'{"a/b": [1e3, "x"]}').leaves:
    ...     print(leaf)
    Leaf(path='/a~1b/0', kind='number', begin=9, end=12, complete=True)
    Leaf(path='/a~1b/1', kind='string', begin=14, end=17, complete=True)
    >>> found = scan_json(b'{"a": "Par')
    >>> found.truncated, found.leaves
    (True, [Leaf(path='/a', kind='string', begin=6, end=10, complete=False)])
    >>> scan_json(b'{"a" 1}').error
    'byte 5: a colon was expected'
    """
    return _Scanner(text, at).run()


def find_json(text: bytes, *, wrapped: bool = True) -> Scan:
    r"""The first JSON value of an answer: the whole of it, or what a fence or prose wraps.

    First the whole text; then what a fence (```json) holds; then the first object or array that is complete, or that
    the text ends within. A scalar counts only where it is the whole text or all that a fence holds. With
    `wrapped=False`: only the whole text.

    >>> [leaf.path for leaf in find_json(b'Sure! {it} is:\n```json\n{"a": 1}\n```\nDone.').leaves]
    ['/a']
    >>> find_json(b"Paris").error
    'no JSON in the text'
    """
    whole = scan_json(text)
    if whole.refused or (whole.error is None and (whole.truncated or _behind_spaces(text, whole.end) == len(text))):
        return _said(text, whole)
    if not wrapped:
        whole.error = whole.error or f"byte {_behind_spaces(text, whole.end)}: the end of the text was expected"
        return whole
    fence = _FENCE.search(text)
    if fence is not None:
        fenced = scan_json(text, fence.end())
        if fenced.error is None and (fenced.truncated or _FENCE_END.match(text, fenced.end)):
            return _said(text, fenced)
    found = None if fence is None else _first_container(text, fence.end())
    found = found or _first_container(text, 0)
    if found is not None:
        return found
    begins = _BRACKET.match(text, _behind_spaces(text, 0))
    return whole if begins and whole.error else Scan(error="no JSON in the text")


def _first_container(text: bytes, at: int) -> Scan | None:
    while (bracket := _BRACKET.search(text, at)) is not None:
        scan = scan_json(text, bracket.start())
        if scan.error is None or scan.refused:
            return _said(text, scan)
        # What opened before the error ends at the error, too; looking inside again would take quadratic time.
        at = max(scan.end, bracket.end())
    return None


def _said(text: bytes, scan: Scan) -> Scan:
    if not scan.leaves and scan.error is None:
        blank = _behind_spaces(text, 0) == len(text)
        scan.error = "no JSON in the text" if blank else "the text ends before the first value"
    return scan


def _name(raw: bytes) -> str:
    """A key as a part of a path; half a surrogate pair, which JSON can escape and no text can hold, is U+FFFD."""
    if b"\\" in raw:
        key: str = json.loads(raw).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    else:
        key = raw[1:-1].decode("utf-8", "replace")
    return "/" + (key.replace("~", "~0").replace("/", "~1") if "~" in key or "/" in key else key)


def _behind_spaces(text: bytes, at: int) -> int:
    """The next place that is no white space."""
    found = _SPACES.match(text, at)
    return at if found is None else found.end()
