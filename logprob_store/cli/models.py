"""The command `models`: what is known of models, and what a server says of its own.

The table is in `logprob_store.models`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from logprob_store.cli.common import JsonOption, echo, print_table

if TYPE_CHECKING:
    from logprob_store.models.table import KnownModel, ModelTable, Takes

_LEAST: Final = (
    "source",
    "checked",
    "output",
    "context",
    "refuses_while_reasoning",
    "endpoints",
    "most_top_logprobs",
    "tiers",
    "fewest_output",
)
"""The columns to leave out first where a terminal has no room."""
_SHOWN: Final = (
    *("logprobs", "reasons", "shutdown", "successor", "refuses", "refuses_while_reasoning", "endpoints", "tiers"),
    *("most_top_logprobs", "fewest_output", "context", "output", "checked", "source"),
)


def models(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One model, as the server calls it.")] = None,
    *,
    live: Annotated[bool, typer.Option("--live", help="Ask the server for its models and their shutdowns.")] = False,
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="The server, up to and with /v1; default: the OpenAI API.")
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="VARIABLE", help="The environment variable that has the key.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rows of your own, which go before those of this package.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what models take: logprobs, parameters, shutdown; of one model also the lines of a job to write.

    What is shown is what a run knows before its first call. Nothing is asked without --live.
    """
    from logprob_store.models.table import read_table, shipped_table

    known = shipped_table() if table is None else read_table(table)
    if live:
        _show_live(known, _listed(name, base_url, api_key_env), base_url, as_json=as_json)
    elif name is not None:
        _show_one(known, name, base_url, as_json=as_json)
    else:
        rows = [{"model": name, **_shown(row)} for row in known.rows for name in row.names]
        _show(rows, as_json=as_json)


def _listed(name: str | None, base_url: str | None, api_key_env: str | None) -> dict[str, Any]:
    from logprob_store.doctor.listed_models import listed_models
    from logprob_store.errors import InputError

    variable = api_key_env or ("OPENAI_API_KEY" if base_url is None else None)
    key = "" if variable is None else os.environ.get(variable, "")
    if variable is not None and not key:
        raise InputError(f"there is no API key: {variable} is not set. `export {variable}=...`, or name another")
    listed = listed_models(base_url=base_url, api_key=key)
    if name is None:
        return listed
    if name not in listed:
        raise InputError(f"the server does not list {name!r}; `logprobs models --live` shows what it lists")
    return {name: listed[name]}


def _show_live(known: ModelTable, listed: dict[str, Any], base_url: str | None, *, as_json: bool) -> None:
    """The server's models, with its own word on their shutdowns in place of the table's."""
    rows = []
    for name, shutdown in listed.items():
        model = known.known(name, base_url=base_url)
        shown = dict.fromkeys(_SHOWN) if model is None else _shown(model.takes)
        rows.append({"model": name, **shown, "shutdown": None if shutdown is None else shutdown.isoformat()})
    _show(rows, as_json=as_json)


def _show(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        echo(rows)
        return
    import polars as pl

    print_table(pl.DataFrame([_as_text(row) for row in rows]), least=_LEAST)


def _show_one(known: ModelTable, name: str, base_url: str | None, *, as_json: bool) -> None:
    model = known.known(name, base_url=base_url)
    lines = {} if model is None else _lines(model, known)
    if as_json:
        echo({"model": name, "known": model is not None, **({} if model is None else _shown(model.takes)), **lines})
    elif model is None:
        echo(f"nothing is known of {name} at {base_url or 'OpenAI'}: a job asks it as it is")
    else:
        echo(name)
        for key, value in _as_text(_shown(model.takes)).items():
            if value:
                echo(f"  {key:<24}{value}")
        for endpoint, written in lines["write"].items():
            echo("\n    ".join([f"  with logprobs, endpoint {endpoint}:", *written.splitlines()]))


def _lines(model: KnownModel, known: ModelTable) -> dict[str, Any]:
    """For each endpoint the lines by which the model, or another in its place, gives logprobs."""
    from logprob_store.models.refusals import lines_for, toml_line

    written = {}
    for endpoint in model.takes.endpoints:
        if endpoint == "decisions":  # its answers are probabilities themselves
            continue
        lines = lines_for(model, endpoint, known)
        if model.takes.logprobs != "no" or "name" in lines:
            written[endpoint] = "\n".join(map(toml_line, lines.items()))
    return {"write": written}


def _shown(takes: Takes) -> dict[str, Any]:
    """What a model takes, as values that JSON has."""
    dumped = takes.model_dump(mode="json")
    return {key: dumped[key] for key in _SHOWN}


def _as_text(row: dict[str, Any]) -> dict[str, str | None]:
    return {
        key: None if value is None else ", ".join(value) if isinstance(value, list) else str(value)
        for key, value in row.items()
    }
