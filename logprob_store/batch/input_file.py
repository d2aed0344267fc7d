"""The input file of a batch: one line of JSON for each call, written to the disk as the calls come."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import TYPE_CHECKING, Final

from logprob_store.batch.journal import pack_line
from logprob_store.errors import DiskError
from logprob_store.spending.request_tokens import estimate_prompt_tokens
from logprob_store.store.durable_files import FILE_MODE, create_file, make_folder, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from logprob_store.request import Request

_KEY_DIGITS: Final = 16
_LINE_BREAKS: Final = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085"))
"""Characters that some readers end a line at. In JSON they stand in texts alone, so they can be escaped."""


def custom_id(call: int, key: str) -> str:
    """The name of a call in a batch: its number in the run, and the first digits of its request key.

    >>> custom_id(12, "00ff" * 16)
    '12-00ff00ff00ff00ff'
    """
    return f"{call}-{key[:_KEY_DIGITS]}"


def input_line(call: int, request: Request, url: str) -> bytes:
    """A call as a line of the file, which names the endpoint's path."""
    head = f'{{"custom_id":"{custom_id(call, request.key)}","method":"POST","url":"{url}","body":'
    content = request.content
    for raw, escaped in _LINE_BREAKS:
        content = content.replace(raw, escaped)
    return head.encode() + content + b"}\n"


class InputFile:
    """An input file that is being written; `lines`, `size` in bytes and about the `tokens` of its prompts so far.

    Args:
        path: of the file; the calls and keys of its lines go into one beside it.
        url: the endpoint's path, which stands on each line.
        mode: the permissions of new files.
    """

    def __init__(self, path: Path, *, url: str, mode: int = FILE_MODE) -> None:
        self.path = path
        self.lines = 0
        self.size = 0
        self.tokens = 0
        self._url = url
        self._digest = hashlib.sha256()
        with self._disk_errors():
            make_folder(path.parent)
            self._file = os.fdopen(create_file(path, mode=mode), "wb")
            self._index = os.fdopen(create_file(path.with_suffix(".lines"), mode=mode), "wb")

    def add(self, call: int, request: Request) -> None:
        """Add a call.

        Raises:
            DiskError: it cannot be written.
        """
        line = input_line(call, request, self._url)
        with self._disk_errors():
            self._file.write(line)
            self._index.write(pack_line(call, request.key))
        self._digest.update(line)
        self.lines += 1
        self.size += len(line)
        self.tokens += estimate_prompt_tokens(request)

    def size_with(self, call: int, request: Request) -> int:
        """The size in bytes that the file would have with one more call."""
        return self.size + len(input_line(call, request, self._url))

    def close(self) -> str:
        """Make the file durable; returns its SHA-256.

        Raises:
            DiskError: it cannot be written.
        """
        with self._disk_errors():
            for file in (self._file, self._index):
                file.flush()
                os.fsync(file.fileno())
                file.close()
            sync_folder(self.path.parent)
        return self._digest.hexdigest()

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DiskError("the calls of a batch", self.path, error, of_answers=False) from error

    def discard(self) -> None:
        """Close and remove the file."""
        for file in (self._file, self._index):
            with contextlib.suppress(OSError):  # of what a full disk did not take
                file.close()
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(".lines").unlink(missing_ok=True)
