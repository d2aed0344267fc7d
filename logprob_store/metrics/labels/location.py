"""Where in an answer its label begins: at the beginning, after a marker, or in a field of its JSON."""

from __future__ import annotations

import re
from typing import Final

import polars as pl
import pyarrow as pa

from logprob_store.metrics.labels.written_forms import in_byte_alphabet
from logprob_store.metrics.spans.fields import field_spans
from logprob_store.metrics.spans.token_offsets import TokenOffsets, locate_tokens
from logprob_store.schema import KEYS

_TEXT_KEYS: Final = (*KEYS, "section")
_SHOWN_SPACES: Final = ("\u0120", "\u010a", "\u0109", "\u2581")
"""What vocabularies show for a space, a line break, a tab, and for the space before a word."""
_SPACE: Final = re.compile(rb"[ \n\t]")


def check_location(after: str | None, field: str | None) -> None:
    """Check that the arguments name one location at most.

    Raises:
        ValueError: both are given, the marker is empty, or the field is not a path.

    >>> check_location(None, "mood")
    Traceback (most recent call last):
    ValueError: field 'mood' is no RFC 6901 path: it begins with a slash, as '/mood'; '' is the whole answer
    """
    if after is not None and field is not None:
        raise ValueError(f"after {after!r} and field {field!r}: a label is at one place; give one of them")
    if after == "":
        raise ValueError("after '': an empty text is everywhere; leave it out for the answer's beginning")
    if field and not field.startswith("/"):
        raise ValueError(
            f"field {field!r} is no RFC 6901 path: it begins with a slash, as {'/' + field!r}; '' is the whole answer"
        )


def label_locations(tokens: pl.LazyFrame, *, after: str | None, field: str | None) -> pl.DataFrame:
    """One row per section of each completion: KEYS, section, `position` and `lead`.

    `position` is that of the token in which the label begins. `lead` is what this token has before the label, such as
    `": "` in `": "Yes`. Both are null where the marker or the field is missing.
    """
    if after is None and field is None:
        first = tokens.group_by(_TEXT_KEYS).agg(pl.col("position").min())
        return first.with_columns(lead=pl.lit(b"", pl.Binary)).collect(engine="streaming")
    offsets = locate_tokens(tokens)
    begins = _after_marker(offsets, after.encode()) if after is not None else _in_field(offsets, field or "")
    texts = offsets.texts.with_columns(at=begins)
    inside = texts.filter(pl.col("at").is_not_null() & (pl.col("at") < pl.col("end")) & ~pl.col("unknown"))
    rows = offsets.tokens["reach"].search_sorted(inside["at"], side="right").cast(pl.Int64)
    token = offsets.tokens[rows]
    leads = [offsets.raw[begin:at].to_pybytes() for begin, at in zip(token["begin"], inside["at"], strict=True)]
    found = inside.select("text").with_columns(token["position"], pl.Series("lead", leads, dtype=pl.Binary))
    return texts.select(*_TEXT_KEYS, "text").join(found, on="text", how="left").drop("text")


def _after_marker(offsets: TokenOffsets, marker: bytes) -> pl.Series:
    """By text: the end of its last marker, as `offsets` counts bytes; null where there is none.

    A text that lacks it is searched for the marker as a vocabulary spells it.
    """
    written = {marker: None, in_byte_alphabet(marker): None, marker.replace(b" ", "\u2581".encode()): None}

    def end_in(text: bytes) -> int | None:
        return next((at + len(one) for one in written if (at := text.rfind(one)) >= 0), None)

    ends = pl.Series([end_in(text) for text in offsets.bytes_of_texts().to_pylist()], dtype=pl.Int64)
    return offsets.texts["begin"] + ends


def _in_field(offsets: TokenOffsets, path: str) -> pl.Series:
    """By text: the beginning of the value at a path; of a key that appears twice, the later one."""
    spans = field_spans(_with_spaces(offsets))
    found = spans.filter(pl.col("path") == path).group_by("text").agg(pl.col("begin").last())
    texts = offsets.texts.select("text").with_columns(pl.col("text").cast(pl.Int64))
    return texts.join(found, on="text", how="left", maintain_order="left")["begin"]


def _with_spaces(offsets: TokenOffsets) -> TokenOffsets:
    """The same texts, with spaces where a text without any shows the space of a vocabulary; each byte at its place."""
    raw = offsets.raw.to_pybytes()
    marks = [mark.encode() for mark in _SHOWN_SPACES if mark.encode() in raw]
    if not marks:
        return offsets
    texts = [raw[begin:end] for begin, end in offsets.texts.select("begin", "end").iter_rows()]
    for number, text in enumerate(texts):
        if _SPACE.search(text) is None:
            for mark in marks:
                texts[number] = texts[number].replace(mark, b" " * len(mark))
    return TokenOffsets(offsets.tokens, offsets.texts, pa.py_buffer(b"".join(texts)))
