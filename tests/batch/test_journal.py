"""The journal of a run's batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from logprob_store.batch.journal import FailedLine, Journal, SentBatch
from logprob_store.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path


def sent(number: int, state: str = "created", *calls: tuple[int, int]) -> SentBatch:
    """A batch."""
    return SentBatch(number, state, "m", 1, 1, "", 1, list(calls))


def test_a_later_session_finds_the_batches(tmp_path: Path) -> None:
    """In the order in which they were packed, with their states."""
    journal = Journal(tmp_path)
    journal.add(sent(2, "created", (5, 7)))
    journal.add(sent(1, "collected", (0, 5)))
    journal.write(journal.batches[0], batch_id="b", done=1)

    found = Journal(tmp_path)
    assert [(batch.number, batch.batch_id, batch.done) for batch in found.batches] == [(1, "", 0), (2, "b", 1)]
    assert (found.open_calls().intervals, found.next_number()) == ([(5, 7)], 3)


def test_the_last_failure_of_a_call_counts(tmp_path: Path) -> None:
    """Without those of later batches, where a batch is collected once more."""
    journal = Journal(tmp_path)
    for number in (1, 2):
        journal.add(sent(number, "collected"))
        journal.write_failures(journal.batches[-1], [FailedLine(3, "k", "server_error", "x", attempts=number)])

    assert journal.failures()[3].attempts == 2
    assert journal.failures(before=2)[3].attempts == 1
    assert journal.failures(before=1) == {}


def test_failures_that_have_rows_are_dropped(tmp_path: Path) -> None:
    """The next session begins to count anew."""
    journal = Journal(tmp_path)
    journal.add(sent(1, "collected"))
    journal.write_failures(journal.batches[0], [FailedLine(3, "k", "a", "x"), FailedLine(4, "k", "b", "x")])
    journal.drop_failures({3}.__contains__)

    assert journal.failures().keys() == {4}


def test_a_damaged_journal_is_told(tmp_path: Path) -> None:
    """What may be under way at the service must be known before anything is sent."""
    journal = Journal(tmp_path)
    journal.add(sent(1))
    journal.path(journal.batches[0], "json").write_bytes(b'{"number":')

    with pytest.raises(StoreError, match="damaged"):
        Journal(tmp_path)
