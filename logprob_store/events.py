"""The events that a run logs, and their form as lines of JSON.

Events are ordinary records of `logging` below the logger `logprob_store`: a record's `event` is the name, and its
`fields` is a dict. Only the command line configures logging (`logprob_store.cli.logs`).

No event has a prompt, an answer or a key in it. A message may quote the start of an error that a server sent.
"""

from __future__ import annotations

import json
import logging
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from logprob_store.errors import CallError
    from logprob_store.request import BadCall, Request


class Event(NamedTuple):
    """An event's level, the names of its fields, and when it is logged."""

    level: int
    fields: tuple[str, ...]
    when: str


_INFO, _WARNING, _ERROR = logging.INFO, logging.WARNING, logging.ERROR

EVENTS: Final = {
    "run_started": Event(
        _INFO, ("run", "job", "store", "prompts", "calls", "already"), "the session begins; `already` had an outcome"
    ),
    "model_shutdown": Event(
        _WARNING, ("model", "shutdown", "successor"), "the model shuts down within 90 days, or has, by what is known"
    ),
    "progress": Event(
        _INFO,
        (
            "settled", "total", "calls", "from_cache", "from_fixtures", "shared", "failed", "in_flight", "per_second",
            "spent_usd", "left_s", "trouble", "batches",
        ),
        "every ten seconds, with `--log-json` only; `per_second` over the last ten, null where it cannot be known; "
        "`trouble` says for how long no call has been answered, and why, null while answers come; `batches` how those "
        "under way are",
    ),
    "attempt_failed": Event(
        _INFO,
        ("prompt_id", "request_key", "attempt", "error_type", "status", "wait_s"),
        "a call failed and is made again after `wait_s`",
    ),
    "prompt_failed": Event(
        _WARNING,
        ("prompt_id", "error_type", "status", "attempts", "maybe_billed"),
        "a prompt becomes a row of `failures`",
    ),
    "limit_learned": Event(
        _INFO,
        ("requests_per_minute", "tokens_per_minute"),
        "the limits that hold from here on have changed; null: none is known",
    ),
    "paused": Event(
        _INFO, ("seconds", "why"), "nothing starts for a second or more: `retry_after` or `reset`, as the server said"
    ),
    "concurrency_cut": Event(
        _INFO, ("allowed",), "the server refused without a time to wait: so many calls at once are allowed now"
    ),
    "no_answer": Event(
        _WARNING,
        ("seconds", "why"),
        "calls failed for 10 seconds, or hung for 30 and for twice as long as ever before; `why` is null for a hang",
    ),
    "outage_began": Event(
        _WARNING, ("in_a_row", "why"), "so many calls failed in a row, the last one so: one at a time from here on"
    ),
    "outage_ended": Event(_WARNING, (), "the server answers again"),
    "outage_given_up": Event(
        _WARNING, ("seconds",), "the outage has outlasted `limits.retry_for_s`: calls fail, or the run stops"
    ),
    "cache_damaged": Event(_WARNING, ("request_key",), "an answer in the cache is damaged and is asked for again"),
    "column_left_out": Event(
        _WARNING, ("run", "columns"), "kept columns of a run, written by an older version, cannot be read"
    ),
    "part_committed": Event(
        _INFO, ("run", "part", "rows", "bytes", "seconds"), "a part is durable; `rows` by table, `bytes` of its files"
    ),
    "stopped": Event(_WARNING, ("reason", "status"), "no further call is made, and why: a class of failure"),
    "stopping": Event(_WARNING, ("in_flight", "grace_s"), "the run is to end; calls under way get some time to finish"),
    "run_ended": Event(
        _INFO,
        (
            "run", "store", "state", "reason", "total", "already", "calls", "from_cache", "from_fixtures", "failures",
            "completions", "tokens", "seconds", "bound_by", "verdict", "spent_usd", "spent_requests", "spent_tokens",
            "spent_usd_by_tier", "files", "answered", "shared", "failed", "not_reached", "passed_over", "decisions",
            "partial", "batches", "unsent",
        ),
        "the session is over: what `--json` prints",
    ),
    "error": Event(_ERROR, ("exit_code",), "the command ends with an error; a bug adds its `traceback`"),
}  # fmt: skip
"""All events by name. Later versions may add events and fields, but remove none.

`make docs` writes `events_table()` into docs/reliability/watching.md.
"""


def events_table() -> str:
    """The events as a Markdown table, for docs/reliability/watching.md."""
    lines = ["| event | level | fields | when |", "|---|---|---|---|"]
    for name, event in EVENTS.items():
        fields = ", ".join(f"`{field}`" for field in event.fields)
        lines.append(f"| `{name}` | {logging.getLevelName(event.level).lower()} | {fields} | {event.when} |")
    return "\n".join(lines) + "\n"


def emit(log: logging.Logger, event: str, message: str, *args: object, level: int | None = None, **fields: Any) -> None:
    """Log an event of `EVENTS`.

    Args:
        log: the logger of the calling module.
        event: the event's name.
        message: text for people, a format string of `logging`.
        args: the values that `message` formats.
        level: replaces the event's level.
        fields: the event's fields, for machines.
    """
    number = EVENTS[event].level if level is None else level
    if log.isEnabledFor(number):
        log.log(number, message, *args, extra={"event": event, "fields": fields}, stacklevel=2)


def emit_prompt_failed(
    log: logging.Logger, call: Request | BadCall, error: CallError, *, level: int | None = None
) -> None:
    """Log that a prompt becomes a failure row."""
    emit(
        log,
        "prompt_failed",
        "prompt %r: %s",
        call.prompt_id,
        error,
        level=level,
        prompt_id=call.prompt_id,
        error_type=error.error_type,
        status=error.status,
        attempts=error.attempts,
        maybe_billed=error.maybe_billed,
    )


class JsonLines(logging.Formatter):
    r"""Formats each record as one line of JSON in ASCII: `ts` (UTC), `level`, `event`, `message`, and the fields.

    A record of another library has the event `log` and a field `logger`. The encoder is the standard library's, which
    escapes all control characters and lone surrogates; msgspec leaves C1 controls and bidirectional overrides as they
    are, and refuses lone surrogates.

    >>> record = logging.LogRecord("x", logging.WARNING, "", 0, "got %s", ("\x1b[31m",), None)
    >>> record.created = 0.0
    >>> print(JsonLines().format(record))
    {"ts": "1970-01-01T00:00:00.000Z", "level": "warning", "event": "log", "message": "got \u001b[31m", "logger": "x"}
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, without a line break."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        event = getattr(record, "event", None)
        line: dict[str, Any] = {
            "ts": at,
            "level": record.levelname.lower(),
            "event": event or "log",
            "message": record.getMessage(),
        }
        line |= {"logger": record.name} if event is None else getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps({name: _json_value(value) for name, value in line.items()}, default=str)


def _json_value(value: Any) -> Any:
    """A value as JSON: floats rounded to six decimals, and null for infinity and NaN, which JSON lacks."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _json_value(item) for name, item in value.items()}
    return value
