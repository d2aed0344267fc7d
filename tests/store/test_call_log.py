"""The log of calls: whatever happens to the process, no call that may have been billed is forgotten."""

from __future__ import annotations

import errno
import logging
import os
import struct
import zlib
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logprob_store.errors import DiskError
from logprob_store.store.call_log import RECORD_BYTES, CallLog, open_call_log, read_call_log
from logprob_store.usage import Bill, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from logprob_store.store.call_log import OpenCall

KEYS = [f"{number:064x}" for number in range(1, 5)]
WORST = Usage(100, 0, 10)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a log that does not exist yet."""
    return tmp_path / "calls.log"


def died(log: CallLog) -> None:
    """End a process as a kill does: the file is left as it is."""
    os.close(log._file)
    log._file = -1


def test_what_was_spent_is_there_after_a_restart(path: Path) -> None:
    """Answered calls count what they took, unbilled ones nothing, lost ones their worst case; all were calls."""
    log = open_call_log(path)
    answered, free, lost = (log.begin(key, WORST) for key in KEYS[:3])
    log.end(answered, Usage(7, 2, 5))
    log.free(free)
    log.lose(lost)
    log.close()

    again = open_call_log(path)

    assert (again.requests, again.spent.whole) == (3, Usage(107, 2, 15))  # 7 + 0 + 100, 2, 5 + 0 + 10
    assert [again.is_lost(key) for key in KEYS] == [False, False, True, False]


def test_a_call_under_way_at_a_kill_is_lost(path: Path) -> None:
    """It counts at its worst and stays lost through any number of kills, until an answer for its key is durable."""
    log = open_call_log(path)
    log.begin(KEYS[0], WORST)
    died(log)

    for _ in range(3):
        log = open_call_log(path)
        assert (log.requests, log.spent.whole, log.is_lost(KEYS[0])) == (1, WORST, True)
        died(log)
    log = open_call_log(path)
    log.end(log.begin(KEYS[0], WORST), Usage(7, 0, 5))
    died(log)

    log = open_call_log(path)
    assert (log.requests, log.spent.whole, log.is_lost(KEYS[0])) == (2, Usage(107, 0, 15), False)


def test_an_answer_that_is_not_durable_at_a_kill_counts_what_it_took(path: Path) -> None:
    """Its key is lost, as the answer is gone; a second answer comes on top."""
    log = open_call_log(path)
    log.answered(log.begin(KEYS[0], WORST), Usage(7, 0, 5))
    died(log)
    before = read_call_log(path.read_bytes())
    log = open_call_log(path, under_way={1})
    died(log)
    rewritten = read_call_log(path.read_bytes())
    assert before.open == rewritten.open
    assert before.open[1].is_answered
    assert before.requests == rewritten.requests == 1

    log = open_call_log(path)
    assert (log.requests, log.spent.whole, log.is_lost(KEYS[0])) == (1, Usage(7, 0, 5), True)
    log.end(log.begin(KEYS[0], WORST), Usage(7, 0, 5))
    assert (log.requests, log.spent.whole, log.is_lost(KEYS[0])) == (2, Usage(14, 0, 10), False)
    died(log)


def test_what_is_reserved_for_lost_calls_is_there_after_restarts(path: Path) -> None:
    """It is a part of what was spent, and is counted once, however often the file is written anew."""
    with closing(open_call_log(path)) as calls:
        calls.end(calls.begin("aa" * 32, Usage(10, 0, 5)), Usage(9, 0, 1))
        calls.lose(calls.begin("bb" * 32, Usage(7, 0, 3, tier="flex")))
    for _ in range(2):
        with closing(open_call_log(path)) as calls:
            assert (calls.spent.total, calls.reserved) == (20, Bill(Usage(7, 0, 3, tier="flex")))
            assert calls.is_lost("bb" * 32)


def test_an_answer_that_was_kept_settles_its_call(path: Path) -> None:
    """A call killed between the writing of its answer and its own record counts the answer's tokens."""
    log = open_call_log(path)
    number = log.begin(KEYS[0], WORST)
    log.begin(KEYS[1], WORST)
    died(log)

    def find(calls: Sequence[OpenCall]) -> Mapping[int, Usage]:
        return {call.number: Usage(7, 0, 5) for call in calls if call.number == number and call.key == KEYS[0]}

    log = open_call_log(path, find=find)

    assert (log.spent.whole, log.is_lost(KEYS[0]), log.is_lost(KEYS[1])) == (Usage(107, 0, 15), False, True)


@pytest.mark.parametrize("cut", [1, RECORD_BYTES - 1])
def test_a_torn_end_is_cut(path: Path, cut: int, caplog: pytest.LogCaptureFixture) -> None:
    """Half a record at the end is dropped with a warning; the others count."""
    log = open_call_log(path)
    log.begin(KEYS[0], WORST)
    log.begin(KEYS[1], WORST)
    died(log)
    os.truncate(path, path.stat().st_size - cut)

    with caplog.at_level(logging.WARNING):
        log = open_call_log(path)

    assert (log.requests, log.spent.whole) == (1, WORST)
    assert "is damaged: 0 records and the" in caplog.text
    assert path.stat().st_size % RECORD_BYTES == 0


def test_a_damaged_record_costs_only_itself(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The records after a damaged one count: all have the same length."""
    log = open_call_log(path)
    log.lose(log.begin(KEYS[0], WORST))
    log.lose(log.begin(KEYS[1], WORST))
    died(log)
    content = bytearray(path.read_bytes())
    content[2 * RECORD_BYTES + 20] ^= 1  # after the totals and a begin: the first call's end
    path.write_bytes(content)

    with caplog.at_level(logging.WARNING):
        log = open_call_log(path)

    assert (log.requests, log.spent.whole) == (2, WORST + WORST)  # the first is open, and so counts at its worst
    assert "is damaged: 1 records" in caplog.text


@pytest.mark.parametrize("damage", ["gone", "totals"])
def test_the_manifest_stands_in_for_a_lost_beginning(path: Path, damage: str) -> None:
    """At least what the manifest says was spent counts."""
    log = open_call_log(path)
    log.end(log.begin(KEYS[0], WORST), Usage(7, 0, 5))
    log.close()
    log = open_call_log(path)
    died(log)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"\0" * RECORD_BYTES)

    log = open_call_log(path, least=(1, Bill(Usage(7, 0, 5))))

    assert (log.requests, log.spent.whole) == (1, Usage(7, 0, 5))


def test_a_rewritten_file_is_small_and_says_the_same(path: Path) -> None:
    """A rewrite keeps the sum of the ended calls, and each open and lost one, and each without a row."""
    log = open_call_log(path)
    for _ in range(100):
        log.end(log.begin(KEYS[0], WORST), Usage(7, 0, 5))
    log.committed(KEYS[0])
    log.end(log.begin(KEYS[3], WORST), Usage(7, 0, 5))
    log.lose(log.begin(KEYS[1], WORST))
    log.begin(KEYS[2], WORST)
    before = read_call_log(path.read_bytes())

    log.rewrite()

    after = read_call_log(path.read_bytes())
    assert path.stat().st_size == 5 * RECORD_BYTES  # totals, the sum of the lost, one lost, one open, one kept
    assert (after.requests, after.spent, after.reserved, after.open, after.lost) == (
        before.requests,
        before.spent,
        before.reserved,
        before.open,
        before.lost,
    )
    assert after.kept == {KEYS[3]}
    assert log.begin(KEYS[3], WORST) > max(before.open)
    assert read_call_log(path.read_bytes()).requests == 104


def test_an_answer_that_is_gone_before_its_row_is_committed_is_lost(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A crash may take the end of the cache along: what was paid for and is asked again has to be marked."""
    log = open_call_log(path)
    for key in KEYS[:3]:
        log.end(log.begin(key, WORST), Usage(7, 0, 5))
    log.committed(KEYS[0])  # in memory: the process dies before the file says it
    died(log)
    asked: set[str] = set()

    again = open_call_log(path, gone=lambda keys: asked.update(keys) or {KEYS[1]})

    assert asked == set(KEYS[:3])
    assert [again.is_lost(key) for key in KEYS[:3]] == [False, True, False]
    assert (again.requests, again.spent.whole) == (3, Usage(21, 0, 15))  # it was counted when it was paid for
    assert "1 answers that this run has paid for are gone" in caplog.text
    died(again)
    later = open_call_log(path, gone=lambda keys: keys)
    assert [later.is_lost(key) for key in KEYS[:3]] == [True, True, True]  # until the row of one is committed


def test_a_call_that_cannot_be_noted_is_not_made(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk `begin` raises, and leaves no half record behind."""
    log = open_call_log(path)
    really = os.write

    def full(file: int, content: bytes) -> int:
        if len(content) == RECORD_BYTES:
            really(file, content[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return really(file, content)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DiskError, match="No space left"):
        log.begin(KEYS[0], WORST)
    monkeypatch.undo()

    assert log.requests == 0
    log.begin(KEYS[1], WORST)
    died(log)
    state = read_call_log(path.read_bytes())
    assert (state.requests, state.damaged, state.torn) == (1, 0, 0)


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.integers(0, 7)),  # from 4 on it is answered, too
        st.tuples(st.sampled_from(["end", "free", "lose"]), st.integers(0, 5)),
        st.tuples(st.sampled_from(["die", "rewrite", "close"]), st.just(0)),
    ),
    max_size=40,
)


def begun(log: CallLog, which: int) -> tuple[int, Usage]:
    """The number of a new call, and what it counts for at a kill."""
    number = log.begin(KEYS[which % 4], WORST)
    if which < 4:
        return number, WORST
    took = Usage(7, 0, 5)
    log.answered(number, took)
    return number, took


@settings(max_examples=100)
@given(actions=ACTIONS)
def test_no_sequence_forgets_a_call(tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, int]]) -> None:
    """Any sequence of begins, answers, ends, kills and rewrites adds up to the sums of a simple model."""
    path = tmp_path_factory.mktemp("calls") / "calls.log"
    log = open_call_log(path)
    requests, spent = 0, Usage()
    opened: dict[int, str] = {}
    worst: dict[int, Usage] = {}
    lost: set[str] = set()
    for action, which in [*actions, ("die", 0)]:
        if action == "begin":
            number, worst_now = begun(log, which)
            opened[number], worst[number] = KEYS[which % 4], worst_now
            requests += 1
        elif action in {"end", "free", "lose"} and opened:
            number = sorted(opened)[which % len(opened)]
            key = opened.pop(number)
            if action == "end":
                log.end(number, Usage(7, 0, 5))
                spent += Usage(7, 0, 5)
                lost.discard(key)
            elif action == "lose":
                log.lose(number)
                spent += worst[number]
                lost.add(key)
            else:
                log.free(number)
        elif action == "rewrite":
            log.rewrite()
        elif action in {"die", "close"}:
            if action == "die":
                died(log)
            else:
                log.close()
            log = open_call_log(path)
            for number, key in opened.items():
                spent += worst[number]
                lost.add(key)
            opened.clear()

        assert (log.requests, log.spent.whole, {key for key in KEYS if log.is_lost(key)}) == (requests, spent, lost)
    died(log)


def test_what_is_billed_apart_is_kept_apart(path: Path) -> None:
    """By tier and length of the prompt, with the tokens written into the cache, also when the file is rewritten."""
    usages = [
        Usage(7, 2, 5, 3),
        Usage(7, 0, 5, tier="flex"),
        Usage(7, 0, 5, 7, tier="flex", is_long=True),
        Usage(1, 0, 1, tier="unknown"),
    ]
    log = open_call_log(path)
    for usage in usages:
        log.end(log.begin(KEYS[0], WORST), usage)
    worst = Usage(100, 0, 10, 100, tier="priority", is_long=True)
    log.lose(log.begin(KEYS[1], worst))
    died(log)
    expected = Bill(*usages, worst)

    first = open_call_log(path)
    first.close()
    second = open_call_log(path)
    second.close()

    assert (first.spent, second.spent, second.requests) == (expected, expected, 5)


def test_a_file_without_tiers_is_what_it_was(path: Path) -> None:
    """The bytes of version 0.1.0: totals of 7, 2 and 5 tokens in one call."""
    fields = struct.pack("<BxxxQQQQQ32s", 1, 1, 7, 2, 5, 1, b"logprob-store calls 1".ljust(32))
    path.write_bytes(struct.pack("<I", zlib.crc32(fields)) + fields)
    before = path.read_bytes()

    log = open_call_log(path)
    log.close()

    assert (log.requests, log.spent.whole) == (1, Usage(7, 2, 5))
    assert path.read_bytes() == before
