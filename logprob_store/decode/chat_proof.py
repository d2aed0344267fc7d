"""The proof that parsed slices are regular: what `chat_bulk` may keep and what it must leave to the exact way.

Holds one class, which looks at the parsed columns of a batch and, only where these leave a doubt, at the text of the
slice. Leaves out parsing. See `chat_bulk` for what regular means.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from logprob_store.decode.flat import unnest
from logprob_store.decode.rows import MOST_ALTERNATIVES

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXACT: Final = pa.scalar(2.0**53, pa.float64())
_ZERO: Final = pa.scalar(0.0, pa.float64())
_ONE: Final = pa.scalar(1.0, pa.float64())
_MOST: Final = pa.scalar(MOST_ALTERNATIVES, pa.int32())
_LARGE_INTEGER: Final = re.compile(rb":\s*+-?[0-9]{16,}+\s*+[,}]")
_NEGATIVE_ZERO: Final = re.compile(rb":\s*+-0\s*+[,}]")
_ZERO_SIGNS: Final = (b"-0,", b"-0}", b"-0 ", b"-0\t", b"-0\r")


class Held(NamedTuple):
    """Whether a slice has tokens, has alternatives, and has null in place of every list of alternatives."""

    tokens: bool
    alternatives: bool
    null_top: bool


class Proof:
    """Collects doubts about the slices of one batch, section by section, and settles them.

    Args:
        contents: the text of each slice, a row of the batch each.
        token_keys: the keys that the schema allows in a token.
        alternative_keys: the keys that it allows in an alternative.
    """

    def __init__(self, contents: Sequence[bytes], token_keys: Sequence[str], alternative_keys: Sequence[str]) -> None:
        self._contents = contents
        self._keys = (token_keys, alternative_keys)
        self._tokens = [0] * len(contents)
        self._alternatives = [0] * len(contents)
        self._irregular: set[int] = set()
        self._nulls: dict[str, set[int]] = {"bytes": set(), "id": set(), "token_id": set()}
        self._null_top: Counter[int] = Counter()
        self._large: set[int] = set()
        self._zero: set[int] = set()

    def look_at(self, tokens: Any, others: Any) -> None:
        """Take in the tokens of one section and their alternatives."""
        _add_lengths(self._tokens, tokens.starts)
        self._look_at_items(tokens.items, tokens.parents)
        if others is None:
            return
        tops = tokens.items.field("top_logprobs")
        if tops.null_count:
            self._null_top.update(tokens.parents.filter(pc.is_null(tops)).to_pylist())
        _add_lengths(self._alternatives, others.starts.take(tokens.starts))
        if len(others.items):
            rows = tokens.parents.take(others.parents)
            self._look_at_items(others.items, rows)
            self._irregular |= _rows(pc.greater_equal(others.index, _MOST), rows)

    def _look_at_items(self, items: Any, rows: Any) -> None:
        names = {field.name for field in items.type}
        for array in (items, items.field("token"), items.field("logprob")):
            if array.null_count:
                self._irregular |= _rows(pc.is_null(array), rows)
        for name in names & self._nulls.keys():
            if items.field(name).null_count:
                self._nulls[name] |= _rows(pc.is_null(items.field(name)), rows)
        if "bytes" in names and items.field("bytes").values.null_count:
            spelled = unnest(items.field("bytes"))
            self._irregular |= _rows(pc.is_null(spelled.items), rows.take(spelled.parents))
        numbers = items.field("logprob")
        self._large |= _rows(pc.greater_equal(pc.abs(numbers), _EXACT), rows)
        zero = pc.equal(numbers, _ZERO)
        if pc.any(zero).as_py():
            self._zero |= _rows(pc.less(pc.divide(_ONE, numbers.filter(zero)), _ZERO), rows.filter(zero))

    def regular(self) -> list[bool]:
        """For each slice, whether it is proven regular."""
        return [self._is_regular(row, content) for row, content in enumerate(self._contents)]

    def held(self, row: int) -> Held:
        """What a regular slice holds."""
        return Held(self._tokens[row] > 0, self._alternatives[row] > 0, row in self._null_top)

    def _is_regular(self, row: int, content: bytes) -> bool:
        if row in self._irregular:
            return False
        for name, rows in self._nulls.items():
            if row in rows and not self._everywhere(name, row, content):
                return False
        if row in self._null_top and (
            self._null_top[row] != self._tokens[row] or not self._everywhere("top_logprobs", row, content)
        ):
            return False
        if row in self._zero and any(sign in content for sign in _ZERO_SIGNS) and _NEGATIVE_ZERO.search(content):
            return False
        return not (row in self._large and _LARGE_INTEGER.search(content))

    def _everywhere(self, name: str, row: int, content: bytes) -> bool:
        """Whether the key stands in each token, and in each alternative if the schema has it there."""
        in_token, in_alternative = (name in keys for keys in self._keys)
        expected = in_token * self._tokens[row] + in_alternative * self._alternatives[row]
        return content.count(b'"%b":' % name.encode()) == expected


def _add_lengths(totals: list[int], starts: Any) -> None:
    bounds = starts.to_pylist()
    for row, (start, stop) in enumerate(pairwise(bounds)):
        totals[row] += stop - start


def _rows(mask: Any, rows: Any) -> set[int]:
    """The rows of the items that a mask picks."""
    if not pc.any(mask).as_py():
        return set()
    return set(pc.unique(rows.filter(mask)).to_pylist())
