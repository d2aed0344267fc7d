"""An address opened in the browser of whoever started the explorer, without its token on a command line.

Every user of a machine sees the command lines of all programs. So the browser is given a file that only its owner may
read, and which leads on to the address.
"""

from __future__ import annotations

import html
import os
import tempfile
import threading
import webbrowser
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_LEADS_ON: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>logprobs explore</title>
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0;url={address}">
</head>
<body><a href="{address}">Open the explorer</a></body>
</html>
"""


@contextmanager
def opened_in_browser(address: str) -> Iterator[Path]:
    """Open an address in the browser; the file that leads to it is removed at the end.

    The browser is started by a thread: one that runs in the terminal ends only when it is closed, and the server has to
    answer it meanwhile.

    Args:
        address: with its token.
    """
    descriptor, name = tempfile.mkstemp(prefix="logprobs-explore-", suffix=".html")  # 0600
    file = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as open_file:
            open_file.write(_LEADS_ON.format(address=html.escape(address)))
        threading.Thread(target=webbrowser.open, args=(file.as_uri(),), daemon=True).start()
        yield file
    finally:
        file.unlink(missing_ok=True)
