"""The text of a new job file: every line that a first job needs, with a comment on each, and others to switch on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from logprob_store.models.refusals import lines_for
from logprob_store.models.table import shipped_table
from logprob_store.spending.request_tokens import MAXIMA
from logprob_store.toml_values import toml_value


@dataclass(frozen=True, slots=True)
class NewJob:
    """What somebody said about a new job; `path` is the prompts' path relative to the job file.

    Exactly one of `prompt`, `messages` and `template` is set. `base_url` None is the OpenAI API.
    """

    name: str
    path: str
    model: str
    prompt: str | None = None
    messages: str | None = None
    template: str | None = None
    system: str | None = None
    id: str | None = None
    keep: tuple[str, ...] = ()
    endpoint: str = "chat"
    base_url: str | None = None
    api_key_env: str | None = None
    top_logprobs: int = 5
    max_tokens: int = 64
    concurrency: int | None = None

    @property
    def key_variable(self) -> str | None:
        """The environment variable that will hold the key; None for a server that wants none."""
        return self.api_key_env or ("OPENAI_API_KEY" if self.base_url is None else None)


_HEAD: Final = """\
# {name}: a job of logprob-store. Paths are relative to this file; a line with # in front of a key is switched off.
#   logprobs doctor {file}          looks whether it can run
#   logprobs run {file} --dry-run   says how many calls it would make, and makes none
#   logprobs run {file}
# Every key: jobs/README.md of logprob-store.
"""


def job_text(new: NewJob, file: str) -> str:
    """The job file's text.

    Args:
        new: what the job is to be.
        file: how the comments at its head call the file.
    """
    lines = [_HEAD.format(name=_in_comment(new.name), file=_in_comment(file)).rstrip("\n")]
    lines += [_line("name", new.name, "a run is called by this and its day")]
    lines += [
        "",
        "[prompts]",
        _line("path", new.path, "a Parquet, CSV or JSON Lines file, a folder, or a glob"),
        *_source(new),
    ]
    lines += [
        _line("id", new.id or "id", "the column that names a prompt from night to night", off=new.id is None),
        _line("keep", list(new.keep), "columns to have beside the answers"),
        "",
        "[model]",
        _line("endpoint", new.endpoint, '"chat", "completions" (for base models) or "responses"'),
        _line("name", new.model, "as the server calls it"),
        *_server(new),
        _line(
            "top_logprobs", new.top_logprobs, "alternatives to keep of each token; most servers give up to 20 over chat"
        ),
        _line("params", _params(new), "sent with each request as they are"),
        "",
        "[limits]",
        _line("concurrency", new.concurrency or 64, "calls at once, at most", off=new.concurrency is None),
        _line("requests_per_minute", 500, "what your account may do, if the server does not say", off=True),
        _line(
            "max_requests", 10_000, "a ceiling that no run passes; in dollars: max_cost_usd, with [prices]", off=True
        ),
        "",
        "[cache]",
        _line("path", ".logprobs/cache", "every answer, on disk before anything else: nothing is paid for twice"),
        "# To compare nights (`logprobs compare`), switch the next line on: without it the second night copies the",
        "# answers of the first from the cache and asks nothing, so that no change of the model can be seen.",
        _line("mode", "refresh", "ask anew each night, and not only what was never answered", off=True),
        "",
        "[store]",
        _line("path", f"out/{new.name}", "the tables; `logprobs scores` and polars read them"),
    ]
    return "\n".join([*lines, ""])


def _params(new: NewJob) -> dict[str, Any]:
    """The parameters, as the model is known to take them."""
    params = {"temperature": 0, _most(new): new.max_tokens}
    table = shipped_table()
    model = table.known(new.model, base_url=new.base_url)
    return dict(params if model is None else lines_for(model, new.endpoint, table, params)["params"])


def _most(new: NewJob) -> str:
    """The parameter that bounds an answer: OpenAI's own name for it, or the older one, which more servers know."""
    return MAXIMA[new.endpoint][0 if new.base_url is None else -1]


def _source(new: NewJob) -> list[str]:
    """The lines that say what a prompt is made of."""
    if new.messages is not None:
        return [_line("messages", new.messages, "the column with whole conversations")]
    system_of = "a text, with columns in braces" if new.template is not None else "the column with the system message"
    system = [] if new.system is None else [_line("system", new.system, system_of)]
    if new.prompt is not None:
        return [_line("prompt", new.prompt, "the column with the text of the prompt"), *system]
    return [_line("template", new.template, "the prompt, with columns in braces"), *system]


def _server(new: NewJob) -> list[str]:
    """The lines that say which server is asked, and with which key."""
    url = _line(
        "base_url",
        new.base_url or "http://localhost:8000/v1",
        "another server than the OpenAI API, up to and with /v1" if new.base_url is None else "the server",
        off=new.base_url is None,
    )
    key = _line(
        "api_key_env",
        new.key_variable or "MY_API_KEY",
        "the environment variable with the key, which is never in this file",
        off=new.key_variable is None,
    )
    return [url, key]


def _line(key: str, value: Any, comment: str, *, off: bool = False) -> str:
    written = f"{'# ' if off else ''}{key} = {toml_value(value)}"
    if "\n" in written:  # text over several lines has its comment before it
        return f"# {comment}\n{written}"
    return f"{written:<41} # {comment}"


def _in_comment(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
