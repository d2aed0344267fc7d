"""Which calls a run passes over, by what earlier runs of the store have: `select` in the job's `[prompts]`.

The calls of this run are in memory, 17 to 33 bytes each; the rows of earlier runs are read once, in batches, and only
their keys or ids. So memory does not grow with the number of earlier rows, of which there may be a hundred million. A
join by polars was rejected: it keeps one side, and the earlier rows are the longer one.

Keys and ids are compared by 128 bits of their hashes: of a hundred million earlier requests and a million of now, two
differ and are taken for one with a chance below 1 in 10^24.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from logprob_store.errors import StoreError
from logprob_store.schema import call_number
from logprob_store.store.manifest import listed_paths
from logprob_store.store.run_folders import is_store
from logprob_store.store.tables import read_manifests, warn_of_unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from numpy.typing import NDArray

    from logprob_store.request import BadCall, Request
    from logprob_store.run.plan import Chunk, Plan
    from logprob_store.store.manifest import Manifest

Reason = Literal["answered", "unknown"]

REASONS: Final[dict[Reason, str]] = {
    "answered": "answered in an earlier run",
    "unknown": "not known from earlier runs",
}
"""Why a call is passed over, in words."""

_ASK, _ANSWERED, _UNKNOWN = 0, 1, 2
_NAMES: Final[dict[int, Reason]] = {_ANSWERED: "answered", _UNKNOWN: "unknown"}
_KEY_DIGITS: Final = 64
_BATCH_ROWS: Final = 1 << 17


def passed_over_sentence(counts: Mapping[str, int]) -> str:
    """How many calls are passed over, and why.

    >>> passed_over_sentence({"answered": 12000, "unknown": 1})
    'passed over: 12,000 answered in an earlier run, 1 not known from earlier runs'
    """
    said = (f"{counts[reason]:,} {words}" for reason, words in REASONS.items() if counts.get(reason))
    return f"passed over: {', '.join(said)}"


@dataclass(frozen=True, slots=True)
class Selection:
    """The calls that are passed over, by their numbers."""

    first: int
    reasons: NDArray[np.uint8]

    def passed_over(self, call: int) -> Reason | None:
        """Why a call is passed over; None for one to make."""
        return _NAMES.get(int(self.reasons[call - self.first])) if call >= self.first else None

    @property
    def counts(self) -> dict[Reason, int]:
        """The calls passed over, by reason."""
        counted = {name: int((self.reasons == code).sum()) for code, name in _NAMES.items()}
        return {name: count for name, count in counted.items() if count}


def earlier_manifests(store: Path, run: str, *, before: datetime | None) -> list[Manifest]:
    """The other runs of a store, those that began before a time if it is given, the oldest first."""
    if not is_store(store):
        return []
    manifests, unreadable = read_manifests(store)
    warn_of_unreadable(store, unreadable)
    others = (manifest for manifest in manifests if manifest.run != run)
    return [manifest for manifest in others if before is None or manifest.created_at < before]


def select_calls(
    plan: Plan,
    chunks: Iterable[Chunk],
    earlier: Sequence[Manifest],
    *,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Selection:
    """Choose among the calls of some chunks.

    Args:
        plan: of the job, which says what to select.
        chunks: the calls to choose among.
        earlier: the manifests of the earlier runs, the oldest first.
        is_stopped: whether to end early, with a selection that is of no use.

    Raises:
        StoreError: the rows of an earlier run cannot be read.
    """
    store, select = plan.job.store_folder, plan.job.prompts.select
    calls = _Calls.of(chunks, plan.calls_per_prompt, ids=select != "new", is_stopped=is_stopped)
    of_job = [manifest for manifest in earlier if manifest.job_name == plan.job.name]
    if select == "failed":
        outcomes = _last_outcomes(store, of_job, calls, is_stopped)
        chosen = np.where(outcomes == _FAILED, _ASK, np.where(outcomes == _HAS_ANSWER, _ANSWERED, _UNKNOWN))
    else:
        chosen = np.where(_are_answered(store, earlier, calls, is_stopped), _ANSWERED, _ASK)
    if select == "changed":
        known = _are_known(store, of_job, calls, is_stopped)
        chosen = np.where((chosen == _ASK) & ~known, _UNKNOWN, chosen)
    first = int(calls.numbers[0]) if len(calls.numbers) else 0
    reasons = np.zeros(int(calls.numbers[-1]) - first + 1 if len(calls.numbers) else 0, np.uint8)
    reasons[calls.numbers - first] = chosen
    return Selection(first, reasons)


_FAILED: Final = 1
_HAS_ANSWER: Final = 2


@dataclass(frozen=True, slots=True)
class _Calls:
    """Calls as arrays: their numbers, their keys, their prompts' ids, and these with the number of the sample.

    A call that cannot be made has the key 0.
    """

    numbers: NDArray[np.int64]
    keys: Hashes
    ids: Hashes
    samples: Hashes

    @classmethod
    def of(cls, chunks: Iterable[Chunk], samples: int, *, ids: bool, is_stopped: Callable[[], bool]) -> _Calls:
        numbers: list[NDArray[np.int64]] = []
        keys: list[NDArray[np.uint64]] = []
        texts: list[pl.DataFrame] = []
        for chunk in chunks:
            if is_stopped():
                break
            calls: list[Request | BadCall] = [*chunk.requests, *chunk.bad]
            found = np.array([call_number(c.prompt_index, c.sample_index, samples) for c in calls], np.int64)
            order = np.argsort(found)
            numbers.append(found[order])
            digits = "".join(request.key for request in chunk.requests) + "0" * _KEY_DIGITS * len(chunk.bad)
            keys.append(_words(bytes.fromhex(digits))[order])
            if ids:
                words = _hashed_ids([c.prompt_id for c in calls], [c.sample_index for c in calls])
                texts.append(words[order.tolist()])
        hashed = pl.concat([_NO_IDS, *texts])
        pairs = np.concatenate([np.zeros((0, 2), np.uint64), *keys])
        return cls(
            np.concatenate([np.zeros(0, np.int64), *numbers]),
            Hashes(pairs[:, 0], pairs[:, 1]),
            Hashes(hashed["one"].to_numpy(), hashed["two"].to_numpy()),
            Hashes(hashed["one"].to_numpy(), hashed["sample"].to_numpy()),
        )


class Hashes:
    """Hashes of two words each, in which others are looked up.

    Those that share the first word and not the second are taken for one that is not found.
    """

    def __init__(self, one: NDArray[np.uint64], two: NDArray[np.uint64]) -> None:
        self._one, first, self._places = np.unique(one, return_index=True, return_inverse=True)
        self._two = two[first]
        self._is_kept = two == self._two[self._places]
        self.different = len(self._one)

    def find(self, one: NDArray[np.uint64], two: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The places of those that are among the hashes."""
        if not self.different:
            return np.zeros(0, np.int64)
        order = np.argsort(one)  # looked up in this order, a million are found ten times as fast
        one, two = one[order], two[order]
        places = np.minimum(np.searchsorted(self._one, one), self.different - 1)
        found: NDArray[np.int64] = places[(self._one[places] == one) & (self._two[places] == two)]
        return found

    def of_each(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """From a value for each place, the value for each hash."""
        each: NDArray[np.uint8] = values[self._places] * self._is_kept
        return each


_NO_IDS: Final = pl.DataFrame(schema={"one": pl.UInt64, "two": pl.UInt64, "sample": pl.UInt64})


def _hashed_ids(ids: Sequence[str] | pl.Series, samples: Sequence[int] | pl.Series) -> pl.DataFrame:
    """Two words of each id, and the second with the number of the sample."""
    text, sample = pl.Series(ids, dtype=pl.String), pl.Series(samples, dtype=pl.UInt64)
    one, two = text.hash(0), text.hash(1)
    return pl.DataFrame({"one": one, "two": two, "sample": (two // 2) + sample})


def _words(digests: bytes | memoryview) -> NDArray[np.uint64]:
    """The first two words of digests of 32 bytes."""
    return np.frombuffer(digests, ">u8").reshape(-1, 4)[:, :2].astype(np.uint64)


def _are_answered(
    store: Path, runs: Sequence[Manifest], calls: _Calls, is_stopped: Callable[[], bool]
) -> NDArray[np.bool_]:
    """Which calls have the key of an answer."""
    found = np.zeros(calls.keys.different, np.uint8)
    for rows in _rows(store, runs, "completions", ["request_key"], is_stopped):
        words = _words_of_keys(rows.column(0))
        found[calls.keys.find(words[:, 0], words[:, 1])] = 1
    return calls.keys.of_each(found).astype(bool)


def _words_of_keys(keys: pa.Array) -> NDArray[np.uint64]:
    """The first two words of keys in hexadecimal; what an import has instead of one, of other lengths, is left out."""
    lengths = pc.fill_null(pc.binary_length(keys), 0)
    if not pc.all(pc.equal(lengths, _KEY_DIGITS)).as_py():
        keys = keys.filter(pc.equal(lengths, _KEY_DIGITS))
    if not len(keys):
        return np.zeros((0, 2), np.uint64)
    _, offsets, letters = keys.buffers()
    start = memoryview(offsets).cast("i" if keys.type == pa.string() else "q")[keys.offset]
    return _words(binascii.unhexlify(memoryview(letters)[start : start + len(keys) * _KEY_DIGITS]))


def _are_known(
    store: Path, runs: Sequence[Manifest], calls: _Calls, is_stopped: Callable[[], bool]
) -> NDArray[np.bool_]:
    """Which calls are of a prompt whose id has an answer."""
    found = np.zeros(calls.ids.different, np.uint8)
    for rows in _rows(store, runs, "completions", ["prompt_id"], is_stopped):
        ids = pl.Series(values=rows.column(0))
        found[calls.ids.find(ids.hash(0).to_numpy(), ids.hash(1).to_numpy())] = 1
    return calls.ids.of_each(found).astype(bool)


def _last_outcomes(
    store: Path, runs: Sequence[Manifest], calls: _Calls, is_stopped: Callable[[], bool]
) -> NDArray[np.uint8]:
    """What the last run that has an outcome of the prompt's sample has: an answer or a failure."""
    found = np.zeros(calls.samples.different, np.uint8)
    for manifest in runs:
        for table, outcome in (("failures", _FAILED), ("completions", _HAS_ANSWER)):
            for rows in _rows(store, [manifest], table, ["prompt_id", "sample_index"], is_stopped):
                ids = _hashed_ids(pl.Series(values=rows.column(0)), pl.Series(values=rows.column(1)).cast(pl.UInt64))
                found[calls.samples.find(ids["one"].to_numpy(), ids["sample"].to_numpy())] = outcome
    return calls.samples.of_each(found)


def _rows(
    store: Path, runs: Iterable[Manifest], table: str, columns: list[str], is_stopped: Callable[[], bool]
) -> Iterator[pa.RecordBatch]:
    for manifest in runs:
        for path in listed_paths(store, manifest, table):
            try:
                with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as parquet:
                    for rows in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
                        if is_stopped():
                            return
                        yield rows
            except (pa.ArrowException, OSError) as error:
                raise StoreError(
                    f"{path} cannot be read, so that it is not known what run {manifest.run} has answered: {error}. "
                    f"`logprobs verify {store}` says what is damaged"
                ) from error
