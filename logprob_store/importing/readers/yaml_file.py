"""YAML files, for cassettes of vcrpy: their documents as JSON values. Needs the extra `yaml`."""

from __future__ import annotations

import base64
import json
import re
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

from logprob_store.extras import import_extra
from logprob_store.importing.items import SourceItem

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator

_START: Final = re.compile(rb"(?:---\s*\n)?(?:#[^\n]*\n)*(?:version: *\d+\s*\n)?(?:http_)?interactions:|---\s*\n")


def recognises(head: bytes) -> bool:
    """Whether a file that starts like this is a cassette, or another document that says it is YAML."""
    return _START.match(head) is not None


def read(reader: io.BufferedReader, _: Callable[[io.BufferedReader], Iterator[SourceItem]], /) -> Iterator[SourceItem]:
    """Each document as an item."""
    try:
        yaml = import_extra("yaml")
    except ImportError as error:
        yield SourceItem(1, b"yaml", problem=f"is YAML: {error}", is_unknown_format=True)
        return
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for document in yaml.load_all(reader.read(), Loader=loader):
            yield SourceItem(1, json.dumps(document, default=_plain).encode())
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # dates and keys that cannot be, too
        yield SourceItem(1, b"yaml", problem=f"is no YAML that can be read: {' '.join(str(error).split())}")


def _plain(value: Any) -> Any:
    """A value that JSON lacks: bytes as vcrpy's JSON has them, times as text."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64_string": base64.b64encode(value).decode()}
    return value.isoformat() if isinstance(value, (date, datetime)) else str(value)
