"""Values as TOML text: for job files that are written, and for the lines of one that a message tells to write."""

from __future__ import annotations

import json
import re
from typing import Any, Final

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


def toml_value(value: Any) -> str:
    """A value as TOML on one line; a text of several lines stays readable, over as many.

    >>> toml_value({"reasoning": {"effort": "none"}, "stop": ["."], "a b": True})
    '{ reasoning = { effort = "none" }, stop = ["."], "a b" = true }'
    >>> toml_value({})
    '{}'
    """
    if isinstance(value, dict):
        if not value:
            return "{}"
        return "{ " + ", ".join(f"{_key(key)} = {toml_value(held)}" for key, held in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, str) and "\n" in value:
        lines = (_quoted(line)[1:-1] for line in value.split("\n"))
        return '"""\n' + "\n".join(lines) + '"""'
    return _quoted(value)


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _quoted(name)


def _quoted(value: Any) -> str:
    # JSON's texts, numbers and booleans are TOML's, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
