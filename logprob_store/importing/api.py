"""`import_responses`, the way in: finds the files, takes in Batch API input files, and imports the others."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from logprob_store.errors import InputError
from logprob_store.importing.importer import Importer, ImportSummary
from logprob_store.importing.known_requests import BatchRequests
from logprob_store.importing.records import read_records
from logprob_store.importing.sources import UNKNOWN_FORMAT, find_sources
from logprob_store.run.memory_settings import set_up_for_a_run
from logprob_store.schema import SAMPLES_PER_PROMPT
from logprob_store.store.opening import open_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from logprob_store.importing.records import Record
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
    """Import recorded responses into a run of a store; importing the same files again adds nothing.

    Args:
        paths: files, and folders that are searched for `.json`, `.jsonl`, `.ndjson`, `.sse`, `.txt`, `.har`, `.eval`
            and cassettes in `.yaml`, each possibly followed by `.gz`, `.zst`, `.bz2` or `.xz`. The content tells what
            a file is: raw responses, `{request, response}` pairs, batch output and input, recorded streams,
            recordings of other tools, fixtures of this package. docs/importing.md has the list.
        store: the store's folder.
        run: the run's name; the same name adds to the same run.
        provider: names the service in request keys where the recording does not; give the `provider` of a job to get
            the keys that the job would have.
        part_bytes: bytes of answers to read before a part is written.
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
    with contextlib.closing(BatchRequests()) as requests:
        input_files = _collect_batch_requests(sources, requests)
        with open_run(
            Path(store), run, job_name="import", job=_JOB, inputs=[], samples=SAMPLES_PER_PROMPT, grows=True
        ) as writer:
            importer = Importer(writer, requests, provider, part_bytes, on_progress)
            with set_up_for_a_run():
                importer.run(sources, input_files)
    summary = importer.summary
    summary.seconds = time.monotonic() - started
    return summary


def _collect_batch_requests(sources: Sequence[Source], requests: BatchRequests) -> set[Source]:
    """Add the requests of all Batch API input files to `requests`; returns which files these are.

    The first record of a file that is known tells whether it is one. An archive may hold answers, too.

    Raises:
        InputError: none of the files holds an answer, or anything that can be imported.
    """
    input_files: set[Source] = set()
    has_answers = False
    problems: list[str] = []
    for source in sources:
        with source.open()[0] as reader:
            first = _first_known(read_records(reader), source, problems)
        if first is None or not first.is_batch_input:
            has_answers = has_answers or first is not None
            continue
        input_files.add(source)
        with source.open()[0] as reader:
            has_answers = _add_requests(read_records(reader), requests) or has_answers
    if not has_answers and len(input_files) == len(sources):
        raise InputError("only Batch API input files: name the output file, and the error file, too")
    if not has_answers and not input_files and len(problems) == len(sources):
        raise InputError(f"{problems[0]}. See `logprobs import --help`.")
    return input_files


def _first_known(records: Iterable[Record], source: Source, problems: list[str]) -> Record | None:
    """The first record in a known format. If all are in unknown ones, the problem of the first joins `problems`."""
    unknown = None
    for record in records:
        if record.problem is None or record.problem.error_type != UNKNOWN_FORMAT:
            return record
        unknown = unknown or record
    if unknown is not None:
        problems.append(f"{source.path}: {unknown.problem}")
    return None


def _add_requests(records: Iterable[Record], requests: BatchRequests) -> bool:
    """Add the requests among the records; whether there are answers, too."""
    has_answers = False
    for record in records:
        if not record.is_batch_input:
            has_answers = has_answers or record.problem is None
        elif record.prompt_id is not None and record.request is not None:
            requests.add(record.prompt_id, record.request)
    return has_answers
