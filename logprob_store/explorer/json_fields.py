"""The values of JSON answers as columns: of objects, what stands at their top and is no object or list itself."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Final

import polars as pl

FIELD: Final = "field_"
"""What the names of these columns begin with."""
_LOOKED_AT: Final = 200
"""Answers whose names are looked at."""
_LEAST_SHARE: Final = 0.5
_MOST_FIELDS: Final = 8
_LONGEST_VALUE: Final = 200
_NAME: Final = re.compile(r"[^'\\\x00-\x1f]{1,60}")
"""Names that can stand in a JSON path."""


def json_fields(texts: pl.Series) -> pl.DataFrame:
    r"""A column of texts for each name that at least half of some answers have; none where answers are no JSON objects.

    Args:
        texts: the answers.

    >>> texts = pl.Series(['{"mood": "good", "n": 3, "of": [1]}', '{"mood": "bad"}', '{"mood": "ba'])
    >>> json_fields(texts).to_dict(as_series=False)
    {'field_mood': ['good', 'bad', None], 'field_n': ['3', None, None]}
    """
    some = texts.drop_nulls().head(_LOOKED_AT)
    names = Counter(name for text in some for name in _names(text))
    chosen = [name for name, count in names.most_common(_MOST_FIELDS) if count >= _LEAST_SHARE * _whole_objects(some)]
    values = [
        pl.col("text").str.json_path_match(f"$['{name}']").str.slice(0, _LONGEST_VALUE).alias(f"{FIELD}{name}")
        for name in sorted(chosen)
    ]
    return texts.alias("text").to_frame().select(values)


def _names(text: str) -> list[str]:
    """The names of an object's values that are neither objects nor lists; none where the text is no object."""
    read = _read(text)
    return [name for name, value in read.items() if not isinstance(value, dict | list) and _NAME.fullmatch(name)]


def _whole_objects(texts: pl.Series) -> int:
    return sum(bool(_read(text)) for text in texts)


def _read(text: str) -> dict[str, object]:
    if not text.lstrip().startswith("{"):
        return {}
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}
