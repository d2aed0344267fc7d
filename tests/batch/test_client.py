"""Batches as services describe them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from logprob_store.batch.client import LineError, WholeLines, batch_of, made_nothing
from logprob_store.errors import CallError
from logprob_store.transport.redaction import Redaction

SPELLINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "capitals": ({"status": "COMPLETED"}, {"status": "completed"}),
    "one L": ({"status": "CANCELED"}, {"status": "cancelled"}),
    "one L, on its way": ({"status": "canceling"}, {"status": "cancelling"}),
    "an empty object for no file": ({"error_file_id": {}}, {"error_file_id": ""}),
    "null for no file": ({"output_file_id": None}, {"output_file_id": ""}),
    "errors as a list": ({"errors": [{"code": "a", "line": 2}]}, {"errors": (LineError("a", 2, ""),)}),
    "errors in data": ({"errors": {"data": [{"message": "b"}]}}, {"errors": (LineError("", None, "b"),)}),
    "one error as a text": ({"error": "too large"}, {"errors": (LineError("", None, "too large"),)}),
    "one error as an object": ({"error": {"code": "c"}}, {"errors": (LineError("c", None, ""),)}),
    "a time as a number": (
        {"expires_at": 1_700_000_000},
        {"expires_at": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)},
    ),
    "a time as a text": (
        {"expires_at": "2026-01-02T03:04:05Z"},
        {"expires_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)},
    ),
    "a time that is none": ({"expires_at": "soon"}, {"expires_at": None}),
    "counts of null": ({"request_counts": {"total": None}}, {"total": 0}),
    "no counts": ({"request_counts": None}, {"completed": 0}),
    "metadata of null": ({"metadata": None}, {"tag": ""}),
}


@pytest.mark.parametrize(("said", "meant"), SPELLINGS.values(), ids=SPELLINGS)
def test_a_batch_is_read_in_any_spelling(said: dict[str, Any], meant: dict[str, Any]) -> None:
    """As OpenAI, Azure and Groq write it."""
    batch = batch_of({"id": "b", **said})

    assert {name: getattr(batch, name) for name in meant} == meant


@pytest.mark.parametrize("said", [{}, {"id": None}, {"id": 5}, {"id": ""}])
def test_a_batch_without_an_id_has_none(said: dict[str, Any]) -> None:
    """Nothing can be asked about it; one that was asked for by its id has that."""
    assert (batch_of(said).id, batch_of(said, id="b").id) == ("", "b")


@pytest.mark.parametrize("status", [*range(300, 309), 408, 409, 424, 425, 499, *range(500, 600), None, 200])
def test_what_an_answer_does_not_deny_may_have_been_made(status: int | None) -> None:
    """A creation that took effect is answered 504 by a gateway that waited for too long."""
    assert not made_nothing(CallError("", error_type="server_error", status=status, maybe_billed=True))


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422, 429])
def test_a_refusal_has_made_nothing(status: int) -> None:
    """The same file may be begun again at once."""
    assert made_nothing(CallError("", error_type="invalid_request", status=status))


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_a_key_in_a_file_is_taken_out_wherever_it_is_cut(at_once: int) -> None:
    """Files come in pieces, and no piece may reach the disk with the half of a key."""
    content = b'{"id": "sk-0123456789abcdef"}\n{"id": "\\u0073k-0123456789abcdef"}\n{"id": "sk-0123456789abcdef"}'
    lines = WholeLines(Redaction("sk-0123456789abcdef"))
    pieces = [lines.feed(content[start : start + at_once]) for start in range(0, len(content), at_once)]

    assert b"".join([*pieces, lines.finish()]) == b'{"id": "[key]"}\n{"id": "[key]"}\n{"id": "[key]"}'
