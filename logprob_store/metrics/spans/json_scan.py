r"""The JSON of an answer, and the bytes at which each of its values begins and ends.

An iterative scanner for whole and truncated JSON: the grammar of RFC 8259 as a few regular expressions, with the paths
of RFC 6901. Parsers give values without offsets, so none could be used. Nothing recurses, so only memory bounds the
depth; the time is linear in the text. Tokens and their logprobs are in `fields`.
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
"""A scalar in an array that is not the last."""

_MEMBER: Final = re.compile(
    _ELEMENT.pattern.replace(_SPACE, _SPACE + rb"(?P<key>" + _STRING + rb")" + _SPACE + rb":" + _SPACE, 1)
)
"""A key and a scalar in an object that are not the last. The key is group 1, so the kinds of scalars begin at 2."""

_SEPARATOR: Final = re.compile(_SPACE + rb"(?:(,)|([}\]]))")
_SPACES: Final = re.compile(_SPACE)

_CUT_STRING: Final = re.compile(rb'"' + _INNER + rb"(?:\\(?:u[0-9a-fA-F]{0,3})?)?\Z")
_CUT_NUMBER: Final = re.compile(rb"-?(?:(?:0|[1-9][0-9]*+)(?:\.[0-9]*+)?(?:(?<=[0-9])[eE][+-]?[0-9]*+)?)?\Z")
_KEY_WITHOUT_COLON: Final = re.compile(_STRING + _SPACE)
_NUMBER_GOES_ON: Final = frozenset({b".", b"e", b"E"})
"""After digits that make a number, one of these says that the number is cut or malformed."""

_FENCE: Final = re.compile(rb"```[ \t]*(?:json|JSON)[a-zA-Z0-9]*[ \t]*\r?\n?|```[ \t]*\r?\n")
_FENCE_END: Final = re.compile(_SPACE + rb"(?:```|\Z)")
_BRACKET: Final = re.compile(rb"[{\[]")

_KINDS: Final = ("", "string", "number", "boolean", "null", "object", "array")
"""By the group of `_VALUE` that matched. Groups 5 and 6 are `{}` and `[]`; 7 and 8 open a container."""

_NUMBER_KIND, _EMPTY_ARRAY, _OPEN_OBJECT = 2, 6, 7
_WORDS: Final = {b"true": "boolean", b"false": "boolean", b"null": "null"}

_MOST_PATH_BYTES: Final = 1 << 24
"""Limit of the bytes of all paths of a text: a path grows with the depth, and a text may be nothing but depth."""


class Leaf(NamedTuple):
    """A value that holds no other: a scalar, `{}` or `[]`.

    `begin` and `end` are in bytes of the text, quotes included. `complete` is False where the text ends within the
    value, or where a number ends with the text and could go on.
    """

    path: str
    kind: str
    begin: int
    end: int
    complete: bool = True


@dataclass(slots=True)
class Scan:
    """What a scan found.

    Attributes:
        end: the byte at which the scan ended.
        leaves: the leaves, in order.
        truncated: whether the text ends before the value does.
        error: what was expected and where, if this is not JSON. The leaves before it then belong to no document.
        too_deep: whether the scan gave up because the paths would fill the memory; it may be JSON.
    """

    end: int = 0
    leaves: list[Leaf] = field(default_factory=list)
    truncated: bool = False
    error: str | None = None
    too_deep: bool = False


def find_json(text: bytes, *, wrapped: bool = True) -> Scan:
    r"""The first JSON value of an answer: the whole text, or what a fence or prose wraps.

    The candidates, in this order: the whole text; the content of a fence (```json); the first object or array that is
    complete or that the text ends within. A scalar counts only where it is the whole text or all of a fence. With
    `wrapped=False`, only the whole text counts.

    >>> [leaf.path for leaf in find_json(b'Sure! {it} is:\n```json\n{"a": 1}\n```\nDone.').leaves]
    ['/a']
    >>> find_json(b"Paris").error
    'no JSON in the text'
    """
    whole = scan_json(text)
    if whole.too_deep or (whole.error is None and (whole.truncated or _after_spaces(text, whole.end) == len(text))):
        return _with_error_if_empty(text, whole)
    if not wrapped:
        whole.error = whole.error or f"byte {_after_spaces(text, whole.end)}: the end of the text was expected"
        return whole
    fence = _FENCE.search(text)
    if fence is not None:
        fenced = scan_json(text, fence.end())
        if fenced.error is None and (fenced.truncated or _FENCE_END.match(text, fenced.end)):
            return _with_error_if_empty(text, fenced)
    found = None if fence is None else _first_container(text, fence.end())
    found = found or _first_container(text, 0)
    if found is not None:
        return found
    begins_with_bracket = _BRACKET.match(text, _after_spaces(text, 0))
    return whole if begins_with_bracket and whole.error else Scan(error="no JSON in the text")


def scan_json(text: bytes, at: int = 0) -> Scan:
    r"""The leaves of the JSON value that begins at byte `at`, after white space; what follows the value is not read.

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


def _first_container(text: bytes, at: int) -> Scan | None:
    while (bracket := _BRACKET.search(text, at)) is not None:
        scan = scan_json(text, bracket.start())
        if scan.error is None or scan.too_deep:
            return _with_error_if_empty(text, scan)
        # Every container that was open at the error is no JSON either; looking inside again would take quadratic time.
        at = max(scan.end, bracket.end())
    return None


def _with_error_if_empty(text: bytes, scan: Scan) -> Scan:
    if not scan.leaves and scan.error is None:
        blank = _after_spaces(text, 0) == len(text)
        scan.error = "no JSON in the text" if blank else "the text ends before the first value"
    return scan


class _Scanner:
    """A scan in progress: the open containers and the path of the next value.

    The methods that take something advance `scan.end`, and return whether a value comes next.
    """

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
            more = self.take_value()
            if self.path_bytes > _MOST_PATH_BYTES:
                self.scan.error = f"byte {self.scan.end}: so deep that the paths of its values fill the memory"
                self.scan.too_deep, more = True, False
        return self.scan

    def path(self) -> str:
        found = "".join(self.names)
        self.path_bytes += len(found)
        return found

    def take_value(self) -> bool:
        """Take a value, or the bracket that opens a container, and what follows it up to the next value."""
        scan, text = self.scan, self.text
        found = _VALUE.match(text, scan.end)
        kind = 0 if found is None else found.lastindex or 0
        if found is None or (kind == _NUMBER_KIND and text[found.end() : found.end() + 1] in _NUMBER_GOES_ON):
            return self.take_cut_value()
        scan.end = found.end()
        if kind > _EMPTY_ARRAY:
            self.counts.append(-1 if kind == _OPEN_OBJECT else 0)
            self.names.append("/0")
            return self.take_members() if kind == _OPEN_OBJECT else self.take_elements()
        # A number at the end of the text may go on, unless it is the whole document.
        complete = kind != _NUMBER_KIND or scan.end < len(text) or not self.counts
        scan.leaves.append(Leaf(self.path(), _KINDS[kind], found.start(kind), scan.end, complete))
        return self.take_separators()

    def take_separators(self) -> bool:
        """Take closing brackets, up to the comma before the next value."""
        scan, counts = self.scan, self.counts
        while counts:
            found = _SEPARATOR.match(self.text, scan.end)
            closes = b"}" if counts[-1] < 0 else b"]"
            if found is None or (found[2] or closes) != closes:
                return self.stop(f"a comma or {closes.decode()}")
            scan.end = found.end()
            if found[1]:
                counts[-1] += counts[-1] >= 0
                return self.take_members() if counts[-1] < 0 else self.take_elements()
            counts.pop()
            self.names.pop()
        return False

    def take_members(self) -> bool:
        """Take members of an object while they are scalars and not the last, then the key of the next member."""
        scan, text = self.scan, self.text
        prefix = None
        while self.path_bytes <= _MOST_PATH_BYTES and (found := _MEMBER.match(text, scan.end)) is not None:
            prefix = "".join(self.names[:-1]) if prefix is None else prefix
            path = prefix + _path_part(found[1])
            self.path_bytes += len(path)
            kind = found.lastindex or 0
            scan.leaves.append(Leaf(path, _KINDS[kind - 1], found.start(kind), found.end(kind)))
            scan.end = found.end()
        found = _KEY.match(text, scan.end)
        if found is not None:
            self.names[-1] = _path_part(found[1])
            scan.end = found.end()
            return True
        scan.end = _after_spaces(text, scan.end)
        if _CUT_STRING.match(text, scan.end):
            scan.truncated, scan.end = True, len(text)
            return False
        key = _KEY_WITHOUT_COLON.match(text, scan.end)
        scan.end = scan.end if key is None else key.end()
        return self.stop("a key in double quotes" if key is None else "a colon")

    def take_elements(self) -> bool:
        """Take elements of an array while they are scalars and not the last."""
        scan, text = self.scan, self.text
        index, prefix = self.counts[-1], None
        while self.path_bytes <= _MOST_PATH_BYTES and (found := _ELEMENT.match(text, scan.end)) is not None:
            prefix = "".join(self.names[:-1]) if prefix is None else prefix
            path = f"{prefix}/{index}"
            self.path_bytes += len(path)
            kind = found.lastindex or 0
            scan.leaves.append(Leaf(path, _KINDS[kind], found.start(kind), found.end(kind)))
            scan.end = found.end()
            index += 1
        self.counts[-1], self.names[-1] = index, f"/{index}"
        return True

    def take_cut_value(self) -> bool:
        """Take a value that the text ends within, or stop where there is none."""
        scan, text = self.scan, self.text
        begin = scan.end = _after_spaces(text, scan.end)
        rest = text[begin : begin + 5]
        kind = None
        if rest.startswith(b'"'):
            kind = "string" if _CUT_STRING.match(text, begin) else None
        elif self.counts and rest:
            kind = next((kind for word, kind in _WORDS.items() if word.startswith(rest)), None)
            kind = "number" if _CUT_NUMBER.match(text, begin) else kind
        if kind is None:
            return self.stop("a value")
        # A string of which only the opening quote is there has no byte yet: it is no leaf.
        if text[begin:] != b'"':
            scan.leaves.append(Leaf(self.path(), kind, begin, len(text), complete=False))
        scan.truncated, scan.end = True, len(text)
        return False

    def stop(self, expected: str) -> bool:
        """End the scan where what is expected is missing: the text is truncated, or is not JSON."""
        scan = self.scan
        scan.end = _after_spaces(self.text, scan.end)
        if scan.end == len(self.text):
            scan.truncated = True
        else:
            scan.error = f"byte {scan.end}: {expected} was expected"
        return False


def _path_part(key: bytes) -> str:
    """A key in quotes as a part of a path; half a surrogate pair, which JSON can escape but no text hold, is U+FFFD."""
    if b"\\" in key:
        name: str = json.loads(key).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    else:
        name = key[1:-1].decode("utf-8", "replace")
    return "/" + (name.replace("~", "~0").replace("/", "~1") if "~" in name or "/" in name else name)


def _after_spaces(text: bytes, at: int) -> int:
    """The first byte from `at` on that is no white space."""
    found = _SPACES.match(text, at)
    return at if found is None else found.end()
