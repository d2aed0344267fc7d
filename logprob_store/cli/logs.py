"""The configuration of `logging`: lines for people, or JSON for machines, on standard error.

The events that are logged are listed in `logprob_store.events`.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from logprob_store.errors import StoreWarning
from logprob_store.events import JsonLines
from logprob_store.view.safe_text import printable

if TYPE_CHECKING:
    from types import TracebackType

_PACKAGE = "logprob_store"
_EQUAL_SHOWN: Final = 3
"""Prompts that fail alike and are shown each."""


class _StandardError(logging.Handler):
    """Writes to the current `sys.stderr`: a progress bar replaces it, and prints log lines above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(printable(self.format(record), keep="\n\t") + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            self.handleError(record)


class _FirstOfEqual(logging.Filter):
    """Lets the first few of equal failures of prompts through, and says once that there are more."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is shown."""
        if getattr(record, "event", None) != "prompt_failed" or not isinstance(record.args, tuple):
            return True
        self._seen[str(record.args[1])] += 1
        count = self._seen[str(record.args[1])]
        if count == _EQUAL_SHOWN + 1:
            record.msg, record.args = "more prompts fail so; the summary counts them: %s", record.args[1:]
        return count <= _EQUAL_SHOWN + 1


def log_lines(*, verbose: bool) -> None:
    """Log warnings as lines for people; with `verbose`, log every event."""
    handler = _StandardError()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(_FirstOfEqual())
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])
    _log_store_warnings()
    _quiet_http_libraries()


def log_json() -> None:
    """Log every event, other libraries' warnings and the error that ends the command as lines of JSON."""
    handler = _StandardError()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(_PACKAGE).setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    _log_store_warnings()
    sys.excepthook = _log_bug
    _quiet_http_libraries()


def logs_json() -> bool:
    """Whether `log_json` was called."""
    return any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers)


def _log_store_warnings() -> None:
    """Log each warning about a store once, and without the line of code that Python would show."""
    show_others = warnings.showwarning
    said: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if not issubclass(category, StoreWarning):
            show_others(message, category, *where, **more)
        elif str(message) not in said:
            said.add(str(message))
            logging.getLogger(_PACKAGE).warning("%s", message)

    warnings.showwarning = show
    warnings.simplefilter("always", StoreWarning)


def _quiet_http_libraries() -> None:
    # The HTTP libraries log each request at INFO, and the SDK its headers at DEBUG.
    for noisy in ("httpx2", "httpcore2", "openai"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _log_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger(_PACKAGE).error(
        "%s: %s",
        kind.__name__,
        error,
        exc_info=(kind, error, trace),
        extra={"event": "error", "fields": {"exit_code": 1}},
    )
