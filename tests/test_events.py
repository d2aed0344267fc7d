"""Events: their list, their table in the docs, and their form as lines of JSON."""

from __future__ import annotations

import ast
import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import logprob_store as ls
from logprob_store.events import EVENTS, JsonLines, emit, events_table

PACKAGE = Path(ls.__file__).parent


def line(message: str, *args: object, **extra: object) -> str:
    """The line that the formatter makes of a record."""
    record = logging.LogRecord("some.logger", logging.WARNING, "", 0, message, args, None)
    for name, value in extra.items():
        setattr(record, name, value)
    return JsonLines().format(record)


def emitted() -> list[pytest.param]:
    """Every call of `emit` in the package: the name of the event and of its fields."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "emit(" in text else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "emit":
                fields = {keyword.arg for keyword in node.keywords if keyword.arg != "level"}
                event = ast.literal_eval(node.args[1])
                found.append(pytest.param(event, fields, id=f"{path.stem}:{node.lineno}:{event}"))
    return found


@pytest.mark.parametrize(("event", "fields"), emitted())
def test_events_have_the_fields_that_are_listed(event: str, fields: set[str | None]) -> None:
    """Each call of `emit` has exactly the fields that the list names."""
    expected = set(EVENTS[event].fields)

    # `**summary` hands over fields that only running it shows; the test of the command line looks at those.
    assert fields == expected or None in fields


def test_a_row_of_the_table() -> None:
    """A row of the table in the docs has the name, the level, the fields and when the event is logged."""
    expected = "| `stopped` | warning | `reason`, `status` | no further call is made, and why: a class of failure |"

    assert expected in events_table().splitlines()


@given(st.text(), st.text())
def test_a_line_is_ascii_json_with_no_control_character(message: str, prompt_id: str) -> None:
    """Any message and field gives one line of printable ASCII that is read back unchanged."""
    text = line("%s", message, event="prompt_failed", fields={"prompt_id": prompt_id})
    read = json.loads(text)

    assert text.isascii()
    assert text.isprintable()
    assert (read["message"], read["prompt_id"]) == (message, prompt_id)


def test_lone_surrogates_and_infinity() -> None:
    """A lone surrogate is escaped, and infinity is null."""
    read = json.loads(line("\ud800", event="x", fields={"seconds": float("inf"), "rows": {"share": float("nan")}}))

    assert (read["message"], read["seconds"], read["rows"]) == ("\ud800", None, {"share": None})


def test_records_of_libraries_come_through() -> None:
    """A library's warning is the event `log`, with its logger."""
    read = json.loads(line("connection pool is %s", "full"))

    assert (read["event"], read["level"], read["message"], read["logger"]) == (
        "log", "warning", "connection pool is full", "some.logger",
    )  # fmt: skip


def test_emit_is_ordinary_logging(caplog: pytest.LogCaptureFixture) -> None:
    """In Python an event is a log record with a message, a name and fields."""
    log = logging.getLogger("logprob_store.test")
    with caplog.at_level(logging.INFO):
        emit(log, "paused", "nothing starts for %.1f s", 2.0, seconds=2.0, why="reset")
    record = caplog.records[0]

    assert (record.getMessage(), record.levelno) == ("nothing starts for 2.0 s", logging.INFO)
    assert (record.event, record.fields) == ("paused", {"seconds": 2.0, "why": "reset"})  # type: ignore[attr-defined]
    assert record.funcName == "test_emit_is_ordinary_logging"
