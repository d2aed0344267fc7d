"""The JSON of an answer: the whole of it, or what a fence or prose wraps.

Leaves out the grammar and where values stand (`json_scan`).
"""

from __future__ import annotations

import re
from typing import Final

from logprob_store.metrics.spans.json_scan import Scan, behind_spaces, scan_json

_SPACE: Final = rb"[ \t\n\r]*+"
_FENCE: Final = re.compile(rb"```[ \t]*(?:json|JSON)[a-zA-Z0-9]*[ \t]*\r?\n?|```[ \t]*\r?\n")
_FENCE_END: Final = re.compile(_SPACE + rb"(?:```|\Z)")
_BRACKET: Final = re.compile(rb"[{\[]")


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
    if whole.refused or (whole.error is None and (whole.truncated or behind_spaces(text, whole.end) == len(text))):
        return _said(text, whole)
    if not wrapped:
        whole.error = whole.error or f"byte {behind_spaces(text, whole.end)}: the end of the text was expected"
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
    begins = _BRACKET.match(text, behind_spaces(text, 0))
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
        blank = behind_spaces(text, 0) == len(text)
        scan.error = "no JSON in the text" if blank else "the text ends before the first value"
    return scan
