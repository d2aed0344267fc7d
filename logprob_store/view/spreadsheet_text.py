"""Text for spreadsheets, which take some texts for formulas and carry them out."""

from __future__ import annotations

import re
from typing import Final

import polars as pl
from polars import selectors

_FORMULA: Final = r"^('*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20])"
"""How a formula begins in a spreadsheet, also with full-width signs; or what `without_formulas` makes of one, so that
taking one apostrophe away gives each text back."""


def without_formulas(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with an apostrophe before each text that begins like a formula: models and prompts may write one.

    >>> without_formulas(pl.DataFrame({"text": ["=HYPERLINK(...)", "@a", "a=b"], "n": [-1, 0, 1]}))["text"].to_list()
    ["'=HYPERLINK(...)", "'@a", 'a=b']
    """
    texts = selectors.string(include_categorical=True) | selectors.enum()
    escaped = frame.with_columns(texts.cast(pl.String).str.replace(_FORMULA, "'$1"))
    return escaped.rename({name: f"'{name}" for name in frame.columns if re.match(_FORMULA, name)})
