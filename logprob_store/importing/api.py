"""`import_responses`: responses that somebody already has, into a run of a store.

Holds the public way in and the first look at the files, which finds Batch API input files. Leaves out what happens to
each record (`session`).
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from logprob_store.errors import InputError
from logprob_store.importing.importer import ImportSession, ImportSummary
from logprob_store.importing.known_requests import BatchInputs
from logprob_store.importing.packed_files import open_file
from logprob_store.importing.records import read_records
from logprob_store.importing.sources import UNKNOWN_FORMAT, find_sources, items_of
from logprob_store.run.memory_settings import set_up_for_a_run
from logprob_store.schema import SAMPLES_PER_PROMPT
from logprob_store.store.opening import open_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from logprob_store.importing.sources import Source

_JOB: Final = {"import": True}


def import_responses(
    paths: str | Path | Iterable[str | Path],
    store: str | Path,
    *,
    run: str = "import",
    provider: str = "import",
    part_bytes: int = 32 << 20,
    on_progress: Callable[[ImportSummary], None] | None = None,
) -> ImportSummary:
    """Import recorded responses; what the run has already is left alone, so that repeating it adds nothing.

    Args:
        paths: files, and folders that are searched for `.json`, `.jsonl`, `.ndjson`, `.sse` and `.txt`, each perhaps
            `.gz` or `.zst`. What a file is, is seen from its content: raw responses, `{request, response}` pairs, Batch
            API output and input, recorded streams, our own fixtures.
        store: the store's folder.
        run: the run's name; the same name adds to the same run.
        provider: names the service in request keys where the recording does not; give the `provider` of a job to get
            the keys that the job would have.
        part_bytes: of answers read before a part is written.
        on_progress: called after each part.

    Raises:
        InputError: there is nothing that can be imported, or the store cannot be written.

    Example:
        >>> import logprob_store as ls
        >>> ls.import_responses("fixtures/rich.jsonl", "out/import").completions  # doctest: +SKIP
        12
    """
    started = time.monotonic()
    sources = find_sources([paths] if isinstance(paths, (str, Path)) else list(paths))
    with contextlib.closing(BatchInputs()) as inputs:
        requests = _read_inputs(sources, inputs)
        with open_run(
            Path(store), run, job_name="import", job=_JOB, inputs=[], samples=SAMPLES_PER_PROMPT, grows=True
        ) as writer:
            session = ImportSession(writer, inputs, provider, part_bytes, on_progress)
            with set_up_for_a_run():
                session.run(sources, requests)
    summary = session.summary
    summary.seconds = time.monotonic() - started
    return summary


def _read_inputs(sources: Sequence[Source], inputs: BatchInputs) -> set[Source]:
    """Take in the Batch API input files, which are told by their first record; returns which they are.

    Raises:
        InputError: none of the other files holds anything that can be imported.
    """
    requests, known = set(), False
    for source in sources:
        with open_file(source.path)[0] as reader:
            first = next(read_records(items_of(reader)), None)
        if first is not None and first.input:
            requests.add(source)
            with open_file(source.path)[0] as reader:
                for record in read_records(items_of(reader)):
                    if record.input and record.id is not None and record.asked is not None:
                        inputs.add(record.id, record.asked)
        known = known or first is None or first.problem is None or first.problem.error_type != UNKNOWN_FORMAT
    if len(requests) == len(sources):
        raise InputError("only Batch API input files: name the output file, and the error file, too")
    if not known:
        raise InputError(f"{sources[0].path}: {first.problem if first else ''}. See `logprobs import --help`.")
    return requests
