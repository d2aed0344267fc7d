"""Batches as files in a folder, for programs that read one file and write another, such as `vllm run-batch`.

It stands in the place of `client.BatchClient`: an upload is a file in the folder, and a batch has ended once the file
of its answers stands beside it with as many lines.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from typing import TYPE_CHECKING, Final

from logprob_store.batch.client import Batch
from logprob_store.batch.output_file import is_whole
from logprob_store.errors import CallError, DiskError
from logprob_store.store.durable_files import FILE_MODE, create_file, make_folder, sync_folder
from logprob_store.transport.inflated import NotGivenError
from logprob_store.transport.redaction import Redaction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection
    from pathlib import Path

_BLOCK: Final = 1 << 20
ANSWERS: Final = ".out.jsonl"
"""How the name of a file of answers ends, in place of `.jsonl`."""


class BatchFolder:
    """A folder of input files and of the answers to them.

    Args:
        folder: made if it is missing.
        file_mode: the permissions of new files.
    """

    def __init__(self, folder: Path, *, file_mode: int = FILE_MODE) -> None:
        self.redaction = Redaction()
        self._folder = folder
        self._file_mode = file_mode

    def command(self, batch_id: str, model: str) -> str:
        """The command that answers a batch."""
        files = self._folder / batch_id, self._folder / f"{batch_id.removesuffix('.jsonl')}{ANSWERS}"
        return shlex.join(["vllm", "run-batch", "-i", str(files[0]), "-o", str(files[1]), "--model", model])

    async def check(self) -> None:
        """There is no service to ask."""

    async def upload(self, path: Path, name: str) -> str:
        """Put an input file into the folder; its name is its id.

        Raises:
            DiskError: it cannot be written.
        """
        await asyncio.to_thread(self._copy, path, self._folder / name)
        return name

    async def is_ready(self, file_id: str) -> bool:  # noqa: ARG002  as BatchClient
        """Nobody looks at a file before it is answered."""
        return True

    async def find_file(self, name: str) -> str | None:
        """The name of an input file, if it is in the folder."""
        return name if (self._folder / name).is_file() else None

    async def create(self, file_id: str, *, endpoint: str, window: str, tag: str) -> Batch:  # noqa: ARG002
        """A batch is the file."""
        return Batch(file_id, "in_progress", input_file_id=file_id)

    async def get(self, batch_id: str) -> Batch:
        """Ended if the answers are there, a line for each line of the input file.

        Raises:
            CallError: the input file is gone, and no answers are there.
        """
        answers = self._folder / f"{batch_id.removesuffix('.jsonl')}{ANSWERS}"
        total, done = await asyncio.to_thread(lambda: (_lines(self._folder / batch_id), _lines(answers)))
        if total is None and done is None:
            raise CallError(f"{self._folder / batch_id} is gone", error_type="invalid_request", status=404)
        if done is None or (total is not None and done < total):
            return Batch(batch_id, "in_progress", input_file_id=batch_id, total=total or 0, completed=done or 0)
        return Batch(batch_id, "completed", batch_id, answers.name, total=done, completed=done)

    async def find_batches(
        self,
        *,
        tag: str,  # noqa: ARG002
        file_id: str,
        but: Collection[str] = (),  # noqa: ARG002
    ) -> AsyncIterator[Batch]:
        """The batch of an input file, if it is in the folder."""
        if (self._folder / file_id).is_file():
            yield Batch(file_id, "in_progress", input_file_id=file_id)

    async def cancel(self, batch_id: str) -> None:
        """Take an input file away, so that nobody begins it."""
        (self._folder / batch_id).unlink(missing_ok=True)
        answers = self._folder / f"{batch_id.removesuffix('.jsonl')}{ANSWERS}"
        if not answers.is_file():
            await asyncio.to_thread(answers.touch)

    async def download(self, file_id: str, path: Path) -> None:
        """Copy the answers.

        Raises:
            NotGivenError: they are gone.
            DiskError: they cannot be written.
        """
        source = self._folder / file_id
        if not source.is_file():
            raise NotGivenError(f"{source} is gone", status=404)
        await asyncio.to_thread(self._copy, source, path)

    def _copy(self, source: Path, target: Path) -> None:
        """Copy a file, durable when this returns, and whole under its name at any time."""
        temporary = target.with_name(f".{target.name}.tmp")
        try:
            make_folder(target.parent)
            with source.open("rb") as read, os.fdopen(create_file(temporary, mode=self._file_mode), "wb") as written:
                while block := read.read(_BLOCK):
                    written.write(block)
                written.flush()
            temporary.replace(target)
            sync_folder(target.parent)
        except OSError as error:
            raise DiskError("the file of a batch", target, error) from error


def _lines(path: Path) -> int | None:
    """The number of whole lines of a file, of which the last may have no line feed; None without a file."""
    if not path.is_file():
        return None
    lines, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            lines += block.count(b"\n")
            last = block[-1:]
    return lines + (last != b"\n" and is_whole(path))
