"""Scripts, styles and data in a form that stands inside a page."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

_IMPORT: Final = re.compile(r"^import [^;]*;\n", re.MULTILINE)
_EXPORT: Final = re.compile(r"^export (?=(?:async )?(?:function|const|class) )", re.MULTILINE)
_COMMENT: Final = re.compile(r"^[ \t]*/\*\*.*?\*/\n", re.MULTILINE | re.DOTALL)
_UNSAFE_IN_SCRIPT: Final = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def joined_scripts(*paths: Path) -> str:
    """Modules of JavaScript as one, each after those that it imports: without imports, exports and long comments.

    The names at the top of the modules have to differ, as they share one scope then.
    """
    texts = [path.read_text(encoding="utf-8") for path in paths]
    return "\n".join(_COMMENT.sub("", _EXPORT.sub("", _IMPORT.sub("", text))) for text in texts)


def joined_styles(*paths: Path) -> str:
    """Style sheets as one."""
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def script_hash(script: str) -> str:
    """What a Content-Security-Policy calls this script, so that the page runs no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def json_in_page(value: Any) -> str:
    r"""JSON that may stand in a `<script type="application/json">`: nothing in it ends the element or begins another.

    >>> json_in_page({"text": "</script><!--"})
    '{"text":"\\u003c/script\\u003e\\u003c!--"}'
    """
    return msgspec.json.encode(value).decode().translate(_UNSAFE_IN_SCRIPT)
