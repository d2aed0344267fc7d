"""The command line, `logprobs`.

Holds argument parsing, exit codes, signals, logging, and the only reading of the environment. Leaves out everything
that can be called from Python: each command is a few lines over the library.

Exit codes: 0 done, 2 the job file or its input is wrong, 3 finished with failed prompts, 4 stopped by a limit and can
be continued, 130 interrupted and can be continued.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from logprob_store.importing import ImportSummary
    from logprob_store.job import Job
    from logprob_store.run import RunSummary
    from logprob_store.store.reading import Store

EXIT_INPUT = 2
EXIT_FAILURES = 3
EXIT_LIMIT = 4
EXIT_INTERRUPTED = 130

_PIPED_WIDTH = 160
_LONG_S = 10.0

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Ask a model about every prompt, keep every token's log-probability and every alternative, in Parquet.",
)


class TransportKind(StrEnum):
    """How answers are obtained."""

    live = "live"
    replay = "replay"


JobFile = Annotated[Path, typer.Argument(metavar="JOB.toml", help="The job file.")]
StorePath = Annotated[Path, typer.Argument(metavar="STORE", help="A store, the folder that `run` wrote.")]
RunOption = Annotated[str | None, typer.Option("--run", help="Only this run; default: all.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of text.")]


def main() -> NoReturn:
    """Run the command line and exit; errors the user can mend are said in one message, without a traceback."""
    from logprob_store.errors import DiskError, InputError

    try:
        app(standalone_mode=True)
    except InputError as error:
        print(f"logprobs: {error}", file=sys.stderr)  # noqa: T201  the command line's own output
        sys.exit(EXIT_INPUT)
    except DiskError as error:
        print(f"logprobs: {error}", file=sys.stderr)  # noqa: T201  the command line's own output
        sys.exit(EXIT_LIMIT)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`); Python would complain again while shutting down.
        sys.stderr.close()
        sys.exit(1)
    sys.exit(0)


@app.callback()
def _logging(
    *,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every retry and commit.")] = False,
) -> None:
    import logging

    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    # The HTTP libraries log each request at INFO, and the SDK its headers at DEBUG.
    for noisy in ("httpx2", "httpcore2", "openai"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


@app.command()
def run(
    job_file: JobFile,
    *,
    store: Annotated[Path | None, typer.Option(help="The store to write, instead of the job's.")] = None,
    run: Annotated[
        str | None, typer.Option("--run", help="The run's name; the same name goes on with the same run.")
    ] = None,
    transport: Annotated[TransportKind | None, typer.Option(help="Instead of the job's.")] = None,
    fixtures: Annotated[Path | None, typer.Option(help="Recordings to replay, instead of the job's.")] = None,
    base_url: Annotated[str | None, typer.Option(help="The server to ask, instead of the job's.")] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Only the first so many prompts.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be asked, and ask nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Ask the model about every prompt and store every token; go on where an earlier run stopped.

    Exit codes: 0 done, 2 the job file or its input is wrong, 3 finished with failed prompts, 4 stopped by a limit,
    130 interrupted; after 3, 4 and 130 the same command goes on.
    """
    from logprob_store.run import run_job

    job = _job(job_file, store=store, transport=transport, fixtures=fixtures, base_url=base_url)
    if dry_run:
        _dry_run(job, run, limit, as_json=as_json)
        return
    with _progress_display() as on_progress:
        summary = run_job(job, run=run, limit=limit, api_key=_api_key(job), on_progress=on_progress)
    _say(_summary_dict(summary) if as_json else _summary_line(summary))
    if summary.state == "interrupted":
        raise typer.Exit(EXIT_INTERRUPTED)
    if summary.state == "stopped":
        raise typer.Exit(EXIT_LIMIT)
    if summary.failures:
        raise typer.Exit(EXIT_FAILURES)


@app.command()
def record(
    job_file: JobFile,
    *,
    fixtures: Annotated[Path, typer.Option(help="The folder (or .jsonl file) to write recordings into.")],
    base_url: Annotated[str | None, typer.Option(help="The server to ask, instead of the job's.")] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Only the first so many prompts.")] = None,
    cached_only: Annotated[
        bool, typer.Option("--cached-only", help="Take answers from the cache and make no call.")
    ] = False,
) -> None:
    """Write the answers to a job's prompts as fixtures, from the cache where it has them, else by asking."""
    import asyncio

    from logprob_store.record import record_job

    job = _job(job_file, transport=TransportKind.live, base_url=base_url)
    key = None if cached_only else _api_key(job)
    done = asyncio.run(record_job(job, fixtures, limit=limit, api_key=key, cached_only=cached_only))
    _say(
        f"{done.path}: {done.lines} recordings; {done.calls} asked, {done.from_cache} from the cache, "
        f"{done.kept} recorded before, {len(done.problems)} without an answer"
    )
    for problem in done.problems[:10]:
        _say(f"  {problem}")
    if done.problems:
        raise typer.Exit(EXIT_FAILURES)


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files, or folders of them.")],
    *,
    store: Annotated[Path, typer.Option(help="The store to write.")],
    run: Annotated[str, typer.Option("--run", help="The run's name; the same name adds to the same run.")] = "import",
    provider: Annotated[
        str, typer.Option(help="The service in request keys, where a recording does not name it.")
    ] = "import",
    as_json: JsonOption = False,
) -> None:
    """Import responses that you already have; importing them again adds nothing.

    Takes raw responses, {request, response} pairs, Batch API output (with its input files, for the requests), recorded
    streams and fixtures, as JSON or JSON Lines, plain, .gz or .zst. Exit codes: 0 done, 2 nothing that can be imported,
    3 finished, with lines that are failures.
    """
    from logprob_store.importing import import_responses

    summary = import_responses(files, store, run=run, provider=provider)
    _say(_summary_dict(summary) if as_json else _import_line(summary))
    if summary.failures:
        raise typer.Exit(EXIT_FAILURES)


@app.command()
def status(store: StorePath, *, run: RunOption = None, as_json: JsonOption = False) -> None:
    """Show the runs of a store: how they stand, their counts, and the failures still open."""
    from logprob_store.view.tables import anomalies_frame, failures_frame, frame_table, runs_frame

    opened = _open(store, run)
    runs, failures = runs_frame(opened), failures_frame(opened)
    if as_json:
        _say({"runs": opened.runs.collect().to_dicts(), "failures": failures.to_dicts()})
        return
    _say(f"{store}: {runs.height} run{'' if runs.height == 1 else 's'}")
    _show(frame_table(runs))
    if (odd := anomalies_frame(opened)).height:
        _say("oddities in what the server sent; docs/store.md says what each means")
        _show(frame_table(odd))
    if failures.height:
        _say("open failures; a job, started again, asks them again")
        _show(frame_table(failures))


@app.command()
def scores(
    store: StorePath,
    *,
    run: RunOption = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write all rows to a .parquet, .csv, .json or .jsonl file.")
    ] = None,
    sort: Annotated[str | None, typer.Option(help="The column to sort by, lowest first; default: confidence.")] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="Rows to print.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Score each completion: perplexity, confidence, entropy and more; the least confident first.

    Of runs that scored given text: each candidate, the likeliest of a prompt first, or each text.
    """
    from logprob_store.errors import InputError
    from logprob_store.view.tables import frame_table, scores_and_columns

    rows, brief, order = scores_and_columns(_open(store, run))
    columns = rows.collect_schema().names()
    if sort is not None and sort not in columns:
        raise InputError(f"--sort {sort}: there is no such column; there are {', '.join(columns)}")
    if output is not None:
        frame = rows.sort("run", "completion_id").collect(engine="streaming")
        _write(frame, output)
        _say(f"{output}: {frame.height} rows")
        return
    if as_json:
        _say(rows.sort(sort or order, nulls_last=True).head(limit).collect().to_dicts())
        return
    shown = rows.sort(sort or order, nulls_last=True).head(limit).collect()
    if shown["run"].n_unique() > 1:
        brief = ["run", *brief]
    _show(frame_table(shown.select(*brief, *([] if sort is None or sort in brief else [sort]))))


@app.command()
def verify(
    store: StorePath,
    *,
    run: RunOption = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Take damaged parts out, so that the job fills them in from the cache.")
    ] = False,
) -> None:
    """Check every file of a store against its manifest: there, whole, readable, sorted."""
    from logprob_store.store.verifying import repair_store, verify_store

    problems = verify_store(store, runs=None if run is None else [run])
    for problem in problems:
        _say(str(problem))
    if not problems:
        _say(f"{store}: all is well")
        return
    if not repair:
        _say(f"{len(problems)} problems; `logprobs verify {store} --repair` mends what can be mended")
        raise typer.Exit(EXIT_INPUT)
    for line in repair_store(store, problems):
        _say(line)


@app.command()
def show(
    store: StorePath,
    completion: Annotated[str, typer.Argument(help="A completion_id, or the id of a prompt.")],
    *,
    run: RunOption = None,
    below: Annotated[float, typer.Option(help="List alternatives of tokens less likely than this.")] = 0.7,
) -> None:
    """Show completions with each token coloured by its probability, and what was almost written."""
    import polars as pl

    from logprob_store.errors import InputError
    from logprob_store.schema import KEYS
    from logprob_store.view.highlight import coloured, legend, uncertain
    from logprob_store.view.plain import printable

    opened = _open(store, run)
    wanted = pl.col("prompt_id") == completion
    if completion.isascii() and completion.isdigit() and len(completion) < 19:  # noqa: PLR2004  digits of an Int64
        wanted = wanted | (pl.col("completion_id") == int(completion))
    rows = opened.completions.filter(wanted).sort(*KEYS).collect()
    if not rows.height:
        raise InputError(f"no completion or prompt {completion!r} in {store}; `logprobs scores {store}` lists them")
    for row in rows.iter_rows(named=True):
        mine = (pl.col("run") == row["run"]) & (pl.col("completion_id") == row["completion_id"])
        tokens = opened.only(row["run"]).tokens.filter(mine).collect()
        beside = opened.only(row["run"]).alternatives.filter(mine).collect()
        _say(
            f"run {row['run']}  completion {row['completion_id']}  prompt {printable(row['prompt_id'])}  "
            f"model {printable(row['response_model'] or row['model'] or '?')}"
        )
        _show(coloured(tokens))
        _show(legend())
        _show(uncertain(tokens, beside, below=below))


def _job(
    path: Path,
    *,
    store: Path | None = None,
    transport: TransportKind | None = None,
    fixtures: Path | None = None,
    base_url: str | None = None,
) -> Job:
    from logprob_store.job import load_job, override

    return override(
        load_job(path),
        store=store,
        transport=None if transport is None else transport.value,
        fixtures=fixtures,
        base_url=base_url,
    )


def _api_key(job: Job) -> str | None:
    import os

    return None if job.key_variable is None else os.environ.get(job.key_variable)


def _progress_display() -> Any:
    from logprob_store.view.progress import bar, lines

    return bar() if sys.stderr.isatty() else lines()


def _dry_run(job: Job, run: str | None, limit: int | None, *, as_json: bool) -> None:
    import dataclasses

    from logprob_store.dry_run import dry_run

    estimate = dry_run(job, run=run, limit=limit)
    if as_json:
        _say(dataclasses.asdict(estimate))
        return
    _say(
        f"{estimate.prompts} prompts, {estimate.calls} calls: {estimate.settled} already in the run, "
        f"{estimate.cached} in the cache or fixtures, {estimate.bad} cannot be asked, {estimate.to_ask} to ask"
    )


def _summary_dict(summary: RunSummary | ImportSummary) -> dict[str, Any]:
    import dataclasses

    return {**dataclasses.asdict(summary), "store": str(summary.store)}


def _summary_line(summary: RunSummary) -> str:
    parts = [f"{summary.calls} asked"]
    if summary.from_cache:
        parts.append(f"{summary.from_cache} from the cache")
    if summary.from_fixtures:
        parts.append(f"{summary.from_fixtures} from fixtures")
    if summary.already:
        parts.append(f"{summary.already} already in the store")
    line = (
        f"run {summary.run} {summary.state} after {summary.seconds:.1f} s. {summary.total} answers wanted: "
        f"{', '.join(parts)}, {summary.failures} failed. "
        f"{summary.completions} completions with {summary.tokens} tokens are in {_near(summary.store)}"
    )
    if summary.already == summary.total and summary.total and not summary.failures:
        line += "\nnothing had to be asked again"
    if summary.seconds > _LONG_S and summary.bound_by:
        line += f"\n{summary.verdict.sentence}"
    if summary.reason is not None:
        line += f"\nstopped: {summary.reason}"
    if summary.state != "finished" or summary.failures:
        line += "\nthe same command goes on from here"
    return line


def _import_line(summary: ImportSummary) -> str:
    failed = ", ".join(f"{count} {error_type}" for error_type, count in sorted(summary.problems.items()))
    line = (
        f"run {summary.run} {summary.size / 1e6:.1f} MB in {summary.files} files after {summary.seconds:.1f} s. "
        f"{summary.records} answers found: {summary.added} added, {summary.already} there already, "
        f"{sum(summary.problems.values())} failed{f' ({failed})' if failed else ''}. "
        f"{summary.completions} completions with {summary.tokens} tokens are in {_near(summary.store)}"
    )
    if summary.ambiguous:
        line += f"\n{summary.ambiguous} answers without their request: the inputs have several under their custom_id"
    if summary.failures:
        line += f"\n{summary.failures} failures are open in the run; `logprobs status` lists them"
    return line


def _near(path: Path) -> Path:
    """The path as a person in this folder would write it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _open(store: Path, run: str | None) -> Store:
    from logprob_store.store.reading import open_store

    return open_store(store, runs=None if run is None else [run])


def _write(frame: pl.DataFrame, path: Path) -> None:
    from logprob_store.errors import InputError

    writers: dict[str, Callable[[Path], object]] = {
        ".parquet": frame.write_parquet,
        ".csv": frame.write_csv,
        ".json": frame.write_json,
        ".jsonl": frame.write_ndjson,
    }
    if path.suffix not in writers:
        raise InputError(f"-o {path}: the name must end in one of {', '.join(writers)}")
    try:
        writers[path.suffix](path)
    except OSError as error:
        raise InputError(f"-o {path}: cannot be written: {error}") from error


def _say(what: object) -> None:
    """Print a line for a person, or JSON for a machine."""
    if isinstance(what, str):
        typer.echo(what)
    else:
        import json

        typer.echo(json.dumps(what, default=str, ensure_ascii=False))


def _show(what: Any) -> None:
    from rich.console import Console

    # Piped into a file or another program, lines are as long as they need to be.
    Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH).print(what)
