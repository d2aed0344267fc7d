"""The command `init`: a job file for somebody's own prompts, asked for or given by options; and a demo.

What the columns are for, and the file's text, are in `logprob_store.new_job`.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from logprob_store.cli.common import JsonOption, echo, print_table
from logprob_store.cli.questions import answer, can_ask, require
from logprob_store.counted import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logprob_store.new_job.job_text import NewJob
    from logprob_store.prompts.input_files import InputFile
    from logprob_store.prompts.overview import FoundColumn
    from logprob_store.run.plan import Chunk, Plan

_LONGEST_PROMPT: Final = 300
"""Characters of the first prompt that are shown."""
_NONE: Final = "-"
"""The answer that means none, where an empty one takes the default."""


class Endpoint(StrEnum):
    """The API that is asked."""

    chat = "chat"
    completions = "completions"
    responses = "responses"


def init(
    place: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER|JOB.toml", help="Where to write; default: job.toml here, or a folder demo."),
    ] = None,
    *,
    prompts: Annotated[
        str | None, typer.Option(help="Prompts: a Parquet, CSV or JSON Lines file, a folder, or a glob.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column with the prompt's text.")] = None,
    template: Annotated[
        str | None, typer.Option(metavar="TEXT", help='The prompt, with columns in braces: "Is {name} a city?".')
    ] = None,
    messages: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column with whole conversations.")] = None,
    system: Annotated[
        str | None, typer.Option(help="Beside --prompt, the column of the system message; beside --template, a text.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", metavar="COLUMN", help="The column that identifies a prompt; - for none.")
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Columns to store beside the answers; default: all others; - for none."),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="The server, up to and with /v1; default: the OpenAI API.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model, as the server calls it.")] = None,
    endpoint: Annotated[Endpoint, typer.Option(help="The API to ask; completions is for base models.")] = Endpoint.chat,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="VARIABLE", help="The environment variable that has the key.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="The most tokens of an answer; default: 64.")] = None,
    top_logprobs: Annotated[int, typer.Option(min=0, help="Alternatives to keep of each token.")] = 5,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Calls at once; default: 64.")] = None,
    name: Annotated[str | None, typer.Option(help="The job's name; default: that of the prompts.")] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Write a small job with its prompts and answers, which runs offline.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a job file for your prompts, commented and checked; a terminal is asked for what no option says.

    Columns are shown and guessed by their names and types: the prompt, an id, and all others to keep.
    """
    from logprob_store.new_job.creating import check_new_job, name_of_prompts, path_from, refuse_existing, write_new_job
    from logprob_store.new_job.job_text import NewJob
    from logprob_store.prompts.overview import found_columns

    if demo:
        _write_demo(place or Path("demo"), force=force, as_json=as_json)
        return
    place = place or Path()
    file = place if place.suffix == ".toml" and not place.is_dir() else place / "job.toml"
    if not force:
        refuse_existing(file)
    asks = can_ask() and not as_json
    require(asks=asks, prompts=prompts, model=model)
    pattern, inputs = answer(
        "Prompts: a file (Parquet, CSV, JSON Lines), a folder of them, or a glob",
        prompts,
        _find,
        default=_only_file(),
        asks=asks,
    )
    columns = found_columns(inputs)
    if not as_json:
        _print_columns(pattern, inputs, columns)
    source: dict[str, Any] = {"prompt": prompt, "template": template, "messages": messages}
    if not any(source.values()):
        source = _source(columns, asks=asks)
    id_and_kept = _id_and_kept(columns, inputs, source=source, id_column=id_column, keep=keep, asks=asks)
    url = _base_url(base_url, asks=asks)
    new = NewJob(
        name=name or name_of_prompts(pattern),
        path=path_from(file.parent, pattern),
        model=answer("Model", model, _not_empty, default=None if url else "gpt-6-luna", asks=asks),
        **source,
        system=system,
        **id_and_kept,
        endpoint=endpoint.value,
        base_url=url,
        api_key_env=api_key_env,
        top_logprobs=top_logprobs,
        max_tokens=_most_tokens(max_tokens, asks=asks),
        concurrency=concurrency,
    )
    plan, first = check_new_job(new, file)
    write_new_job(new, file, force=force)
    if as_json:
        echo(_as_dict(file, new, plan, columns))
    else:
        _print_written(file, new, plan, first)


def _write_demo(folder: Path, *, force: bool, as_json: bool) -> None:
    from logprob_store.errors import InputError
    from logprob_store.new_job.creating import write_demo

    if folder.suffix == ".toml":
        raise InputError(f"{folder}: --demo writes several files: name a folder for them")
    files = write_demo(folder, force=force)
    job, store = files[0], folder / "out"
    following = [
        f"logprobs run {job}",
        f"logprobs scores {store}",
        f"logprobs show {store} PN",
        f"logprobs calibrate {store} --expected capital",
    ]
    if as_json:
        echo({"job": job, "files": files, "next": following})
        return
    echo(f"wrote {', '.join(map(str, files))}")
    _print_next(following)


def _find(pattern: str) -> tuple[str, list[InputFile]]:
    from logprob_store.prompts.input_files import find_inputs

    return pattern, find_inputs(pattern, base=Path.cwd())


def _only_file() -> str | None:
    """The one file of the working directory that may hold prompts; None where there are none or several."""
    from logprob_store.prompts.text_tables import CSV_SUFFIXES, JSON_SUFFIXES

    suffixes = {".parquet", *CSV_SUFFIXES, *JSON_SUFFIXES}
    files = [path.name for path in Path.cwd().iterdir() if path.suffix.lower() in suffixes]
    return files[0] if len(files) == 1 else None


def _not_empty(text: str) -> str:
    from logprob_store.errors import InputError

    if not text:
        raise InputError("this cannot be empty")
    return text


def _source(columns: Sequence[FoundColumn], *, asks: bool) -> dict[str, Any]:
    """What the prompts are made of, where no option says it: `prompt`, `messages` or `template`.

    Raises:
        InputError: several columns could be the prompt, and nobody is asked.
    """
    from logprob_store.errors import InputError
    from logprob_store.new_job.guessing import guess_messages, guess_prompt

    conversations = guess_messages(columns)
    default = conversations or guess_prompt(columns)
    names = [column.name for column in columns]
    if default is None and not asks:
        raise InputError(
            f"which column is the prompt? There are {', '.join(names)}: say --prompt COLUMN, --messages COLUMN, or "
            "--template 'a text with {column}'"
        )

    def check(said: str) -> dict[str, Any]:
        if said not in names and "{" not in said:
            raise InputError(f"there is no column {said!r}; there are {', '.join(names)}")
        kind = "template" if said not in names else "messages" if said == conversations else "prompt"
        return {"prompt": None, "template": None, "messages": None, kind: said}

    return answer("Prompt: a column, or a text with columns in {braces}", None, check, default=default, asks=asks)


def _id_and_kept(
    columns: Sequence[FoundColumn],
    inputs: Sequence[InputFile],
    *,
    source: dict[str, Any],
    id_column: str | None,
    keep: str | None,
    asks: bool,
) -> dict[str, Any]:
    from logprob_store.errors import InputError
    from logprob_store.new_job.guessing import columns_to_keep, guess_id

    names = [column.name for column in columns]
    prompt = source["prompt"] or source["messages"]

    def known(said: str) -> str:
        if said not in names:
            raise InputError(f"there is no column {said!r}; there are {', '.join(names)}")
        return said

    def one(said: str) -> str | None:
        return None if said == _NONE else known(said)

    def several(said: str) -> list[str]:
        if said == default.strip():  # names of columns may have commas in them
            return others
        return [] if said == _NONE else [known(word.strip()) for word in said.split(",") if word.strip()]

    guessed = _NONE if id_column is not None else guess_id(columns, inputs, but=prompt) or _NONE
    found = answer(f"Id: the column that names a prompt, {_NONE} for none", id_column, one, default=guessed, asks=asks)
    used = [name for name in (found, prompt) if name is not None]
    others = columns_to_keep(columns, inputs, used=used)
    default = ",".join(others) or _NONE
    kept = answer(f"Keep beside the answers, {_NONE} for none", keep, several, default=default, asks=asks)
    return {"id": found, "keep": tuple(kept)}


def _base_url(given: str | None, *, asks: bool) -> str | None:
    """The URL of the server; None for the OpenAI API."""
    from logprob_store.new_job.creating import check_base_url
    from logprob_store.request import OPENAI_BASE_URL

    url = answer("Server: its URL up to /v1", given, check_base_url, default=OPENAI_BASE_URL, asks=asks)
    return None if url == OPENAI_BASE_URL else url


def _most_tokens(given: int | None, *, asks: bool) -> int:
    from logprob_store.errors import InputError

    def check(said: str) -> int:
        if not (said.isascii() and said.isdecimal() and int(said[:9]) > 0):
            raise InputError(f"{said!r} is no number of tokens")
        return int(said[:9])

    number = None if given is None else str(given)
    return answer("Most tokens of an answer", number, check, default="64", asks=asks)


def _print_columns(pattern: str, inputs: Sequence[InputFile], columns: Sequence[FoundColumn]) -> None:
    import polars as pl

    files = counted(len(inputs), "file")
    echo(
        f"{pattern}: {counted(sum(file.rows for file in inputs), 'row')} in {files}; the columns, with the "
        f"first row's values"
    )
    rows = [(column.name, column.type_name, _shown(column.first)) for column in columns]
    print_table(pl.DataFrame(rows, schema=["column", "type", "value"], orient="row"), least=["type"])


def _shown(value: Any) -> str | None:
    return None if value is None else str(value)[:_LONGEST_PROMPT]


def _as_dict(file: Path, new: NewJob, plan: Plan, columns: Sequence[FoundColumn]) -> dict[str, Any]:
    import dataclasses

    return {
        "job": file,
        "prompts": plan.prompt_count,
        "calls": plan.call_count,
        "columns": [{"name": one.name, "type": one.type_name, "first": _shown(one.first)} for one in columns],
        "settings": dataclasses.asdict(new),
        "next": _following(file, new),
    }


def _print_written(file: Path, new: NewJob, plan: Plan, first: Chunk | None) -> None:
    from logprob_store.request import OPENAI_BASE_URL

    source = f"the column {new.prompt or new.messages}" if new.template is None else "a template"
    echo(
        f"wrote {file}: {counted(plan.call_count, 'call')} of {new.model} at "
        f"{new.base_url or OPENAI_BASE_URL}; the prompt is "
        f"{source}, its id {new.id or 'the number of its row'}; kept: {', '.join(new.keep) or 'nothing'}"
    )
    if new.id is None:
        echo(
            "no column is the id: none that is called id or ..._id has a value of its own in each row. With --id "
            "COLUMN a prompt keeps its id when rows are put in front of it"
        )
    if not plan.prompt_count:
        echo("there is no prompt in it yet, so that a run would ask nothing")
    if first is not None:
        for request in first.requests[:1]:
            echo(f"the first one: {request.content.decode(errors='replace')[:_LONGEST_PROMPT]}")
        for bad in first.bad[:1]:
            echo(
                f"{len(first.bad)} of the first {counted(first.prompts_read, 'prompt')} cannot be asked, such "
                f"as {bad.problem}"
            )
    _print_next(_following(file, new))


def _following(file: Path, new: NewJob) -> list[str]:
    key = new.key_variable
    return [
        *([f"export {key}=..."] if key else []),
        f"logprobs doctor {file}",
        f"logprobs run {file} --dry-run",
        f"logprobs run {file} --limit 10 --run try",
    ]


def _print_next(commands: Sequence[str]) -> None:
    echo("next:")
    for command in commands:
        echo(f"  {command}")
