"""YAML files, for cassettes of vcrpy: their documents as JSON values. Needs the extra `yaml`."""

from __future__ import annotations

import base64
import json
import re
import sys
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

from logprob_store.extras import import_extra
from logprob_store.importing.items import SourceItem

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator

_TOO_LONG_NUMBER: Final = f"an integer of more than {sys.get_int_max_str_digits()} digits, which is too long to read"
_START: Final = re.compile(rb"(?:---\s*\n)?(?:#[^\n]*\n)*(?:version: *\d+\s*\n)?(?:http_)?interactions:|---\s*\n")


_INTERACTION: Final = re.compile(rb"^- request:.*?(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
"""An interaction of a cassette, up to the next line that is not indented."""

_NOT_JSON: Final = (ValueError, TypeError, RecursionError)
"""What dates and keys raise that JSON does not have."""


def recognises(head: bytes) -> bool:
    """Whether a file that starts like this is a cassette, or another document that says it is YAML."""
    return _START.match(head) is not None


def read(reader: io.BufferedReader, _: Callable[[io.BufferedReader], Iterator[SourceItem]], /) -> Iterator[SourceItem]:
    """Each document as an item; of a cassette that is torn, each interaction."""
    try:
        yaml = import_extra("yaml")
    except ImportError as error:
        yield SourceItem(1, b"yaml", problem=f"is YAML: {error}", is_unknown_format=True)
        return
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    content = reader.read()
    try:
        for document in yaml.load_all(content, Loader=loader):
            yield SourceItem(1, json.dumps(document, default=_plain).encode())
    except (yaml.YAMLError, *_NOT_JSON) as error:
        parts = list(_INTERACTION.finditer(content))
        if not parts:
            yield _problem(1, None, error)
    else:
        return
    for n, part in enumerate(parts):
        line = content.count(b"\n", 0, part.start()) + 1
        try:
            [interaction] = yaml.load(part[0], Loader=loader)
            yield SourceItem(1, json.dumps(interaction, default=_plain).encode(), n)
        except (yaml.YAMLError, *_NOT_JSON) as error:
            yield _problem(line, n, error)


def _problem(line: int, element: int | None, error: Exception) -> SourceItem:
    """The item of what is no YAML, or YAML that no JSON can be."""
    said = _TOO_LONG_NUMBER if "int_max_str_digits" in str(error) else " ".join(str(error).split())
    problem = f"is no YAML that can be read, from line {line} on: {said}"
    return SourceItem(1, b"yaml:%d" % line, element, problem=problem)


def _plain(value: Any) -> Any:
    """A value that JSON lacks: bytes as vcrpy's JSON has them, times as text."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64_string": base64.b64encode(value).decode()}
    return value.isoformat() if isinstance(value, (date, datetime)) else str(value)
