"""Where log records go: lines for people, or JSON for machines, on standard error.

Holds the only configuring of `logging`. Leaves out what is logged (`logprob_store.events`).
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from logprob_store.events import JsonLines

if TYPE_CHECKING:
    from types import TracebackType

_PACKAGE = "logprob_store"


class _StandardError(logging.Handler):
    """Writes to what standard error is at that moment: a progress bar puts itself there, and makes room for lines."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            self.handleError(record)


def log_lines(*, verbose: bool) -> None:
    """A line for people for each warning, with `verbose` for each event."""
    handler = _StandardError()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])
    _quiet()


def log_json() -> None:
    """A line of JSON for each event, for warnings of other libraries, and for the error that ends the command."""
    handler = _StandardError()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(_PACKAGE).setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_bug
    _quiet()


def logs_json() -> bool:
    """Whether `log_json` holds."""
    return any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers)


def _quiet() -> None:
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
