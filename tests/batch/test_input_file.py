"""Input files: what stands on their lines."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

import pytest
from builders import chat_request

from logprob_store.batch.input_file import InputFile, input_line
from logprob_store.batch.journal import Journal, SentBatch
from logprob_store.errors import DiskError

if TYPE_CHECKING:
    from pathlib import Path

URL = "/v1/chat/completions"


def test_a_line_is_a_call() -> None:
    """Its body is that of the live request."""
    request = chat_request(max_tokens=1)
    line = json.loads(input_line(7, request, URL))

    assert line == {
        "custom_id": f"7-{request.key[:16]}",
        "method": "POST",
        "url": URL,
        "body": json.loads(request.content),
    }


def test_no_text_breaks_a_line() -> None:
    """Characters that some readers of JSON Lines end a line at are escaped."""
    request = chat_request(messages=[{"role": "user", "content": "a\u2028b\u2029c\u0085d"}])
    line = input_line(7, request, URL).decode()

    assert len(line.splitlines()) == 1
    assert json.loads(line)["body"] == json.loads(request.content)


def test_a_file_knows_its_calls(tmp_path: Path) -> None:
    """Its digest, and the call and key of each line."""
    journal = Journal(tmp_path)
    requests = {call: chat_request(seed=call) for call in (3, 4, 9)}
    file = InputFile(journal.folder / "batch-00001.jsonl", url=URL)
    for call, request in requests.items():
        file.add(call, request)
    sha256 = file.close()

    batch = SentBatch(1, "packed", "m", file.lines, file.size, sha256, file.tokens)
    assert journal.lines(batch) == [(call, request.key) for call, request in requests.items()]
    content = journal.path(batch, "jsonl").read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (file.size, sha256)


def test_the_size_with_one_more_is_exact(tmp_path: Path) -> None:
    """So that no file passes the limit of a service."""
    file = InputFile(tmp_path / "batch-00001.jsonl", url=URL)
    request = chat_request(messages=[{"role": "user", "content": "é\u2028"}])
    expected = file.size_with(1, request)
    file.add(1, request)
    file.close()

    assert file.size == expected


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was packed by then is dropped without another error."""
    monkeypatch.setattr(
        "logprob_store.batch.input_file.create_file", lambda *_, **__: os.open("/dev/full", os.O_WRONLY)
    )
    file = InputFile(tmp_path / "batch-00001.jsonl", url=URL)
    file.add(1, chat_request())

    with pytest.raises(DiskError, match="the calls of a batch could not be written"):
        file.close()
    file.discard()
