"""Calls into the input files of batches: as many as the service takes, and as the budget allows at their worst."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from logprob_store.batch.input_file import InputFile
from logprob_store.batch.journal import SentBatch
from logprob_store.spending.request_tokens import estimate_prompt_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from logprob_store.batch.journal import Journal
    from logprob_store.request import Request
    from logprob_store.run.batch_queue import BatchQueue
    from logprob_store.spending.budget import Budget
    from logprob_store.spending.reservation import Reservation


_LINE_BYTES: Final = 200
"""Bytes of a line beside the call's body, at most."""


class _Filling:
    """A batch that is being packed, with what is reserved for its calls."""

    def __init__(self, number: int, file: InputFile) -> None:
        self.number = number
        self.file = file
        self.reservations: list[Reservation] = []


class BatchPacker:
    """Packs calls into batches, each of one model.

    Args:
        journal: of the run.
        budget: of the run; reserves the worst case of each call.
        queue: has the most tokens of a batch.
        held: gets what is reserved, by the number of the call in the record of calls.
        url: the path that lines name.
        max_lines: of a file.
        max_bytes: of a file.
        on_packed: called with each batch that is ready to be sent.
    """

    def __init__(
        self,
        journal: Journal,
        budget: Budget,
        queue: BatchQueue,
        *,
        held: MutableMapping[int, Reservation],
        url: str,
        max_lines: int,
        max_bytes: int,
        on_packed: Callable[[SentBatch], None],
    ) -> None:
        self._journal = journal
        self._budget = budget
        self._queue = queue
        self._held = held
        self._url = url
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._on_packed = on_packed
        self._filling: dict[str, _Filling] = {}
        self._next_number = journal.next_number()

    def add(self, call: int, request: Request) -> bool:
        """Add a call; false if the budget has no room until others have settled.

        Raises:
            StopRunError: a ceiling allows no further call.
            DiskError: the batch cannot be recorded.
        """
        reservation = self._budget.try_reserve(request)
        if reservation is None:
            return False
        model = request.model or ""
        filling = self._filling.get(model)
        if filling is not None and self._is_full(filling.file, call, request):
            self._finish(model)
            filling = None
        if filling is None:
            filling = self._filling[model] = self._begin()
        filling.file.add(call, request)
        reservation.request = None  # its texts are in the file
        filling.reservations.append(reservation)
        return True

    def fits_alone(self, request: Request) -> bool:
        """Whether a file has room for a call, if it is the only one."""
        return len(request.content) + _LINE_BYTES <= self._max_bytes

    def finish(self) -> None:
        """Close the files that are being filled: they are ready to be sent."""
        for model in list(self._filling):
            self._finish(model)

    def discard(self) -> None:
        """Drop the files that are being filled, of which nothing is recorded; what was reserved is free again."""
        while self._filling:
            _, filling = self._filling.popitem()
            for reservation in filling.reservations:
                reservation.failed(None)
            filling.file.discard()

    def _begin(self) -> _Filling:
        number, self._next_number = self._next_number, self._next_number + 1
        path = self._journal.folder / f"batch-{number:05d}.jsonl"
        return _Filling(number, InputFile(path, url=self._url, mode=self._journal.mode))

    def _is_full(self, file: InputFile, call: int, request: Request) -> bool:
        max_bytes = min(self._max_bytes, self._queue.max_bytes or self._max_bytes)
        if file.lines >= self._max_lines or file.size_with(call, request) > max_bytes:
            return True
        limit = self._queue.limit
        return limit is not None and file.tokens + estimate_prompt_tokens(request) > limit

    def _finish(self, model: str) -> None:
        """Record the calls of a batch, which are open until it is collected; the journal says first which they are."""
        filling = self._filling.pop(model)
        sha256 = filling.file.close()
        record = self._budget.calls
        batch = SentBatch(
            filling.number,
            "packing",
            model,
            filling.file.lines,
            filling.file.size,
            sha256,
            filling.file.tokens,
            first_call=0 if record is None else record.next_number,
        )
        self._journal.add(batch)
        for reservation in filling.reservations:
            number = reservation.begin()
            if number is not None:
                self._held[number] = reservation
        if record is not None:
            record.sync()
        self._journal.write(batch, state="packed")
        self._on_packed(batch)
