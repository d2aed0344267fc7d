"""The table of models: what each takes, by the names that services give it.

The data is in `models.toml`; whoever knows better has rows of their own before it. Only services whose names are known
are looked up: a server of somebody's own that calls its model `gpt-4o-mini` is asked as it is.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import tomllib
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from logprob_store.errors import JobError
from logprob_store.job_problems import job_problems
from logprob_store.request import OPENAI_BASE_URL

if TYPE_CHECKING:
    from pathlib import Path

ANYTHING: Final = "anything"
Endpoint = Literal["chat", "completions", "responses", "decisions"]

_DATED: Final = re.compile(r"-20\d\d-\d\d-\d\d$")
_FINE_TUNED: Final = re.compile(r"ft:([^:]+):")
_MAKER: Final = "openai/"
"""What gateways have before OpenAI's own name of a model; OpenRouter has `:` behind it, and which servers to choose."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Takes(_Strict):
    """What a model takes. The keys are explained in `models.toml`.

    `like` names a model to take the others from; with `anything` the model is asked as it is, whatever is known. The
    text "anything" stands for that alone.
    """

    anything: bool = False
    like: str | None = Field(default=None, min_length=1)
    logprobs: Literal["yes", "without reasoning", "no"] = "yes"
    reasons: Literal["never", "when asked", "by default", "always"] = "never"
    refuses: tuple[str, ...] = ()
    refuses_while_reasoning: tuple[str, ...] = ()
    endpoints: tuple[Endpoint, ...] = Field(default=("chat", "completions", "responses", "decisions"), min_length=1)
    tiers: tuple[Literal["flex", "priority", "ultrafast"], ...] | None = None
    most_top_logprobs: int | None = Field(default=None, ge=0, strict=True)
    fewest_output: int | None = Field(default=None, ge=1, strict=True)
    context: int | None = Field(default=None, gt=0, strict=True)
    output: int | None = Field(default=None, gt=0, strict=True)
    shutdown: date | None = None
    successor: str | None = None
    source: str = ""
    checked: date | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, value: Any) -> Any:
        if value != ANYTHING and not isinstance(value, (dict, Takes)):
            raise ValueError('is "anything", or a table such as { like = "gpt-6-luna" } or { logprobs = "yes" }')
        return {ANYTHING: True} if value == ANYTHING else value

    def over(self, base: Takes) -> Takes:
        """The base, with what is set here in its place."""
        return base.model_copy(update={name: getattr(self, name) for name in self.model_fields_set - {"like", "names"}})


class ModelRow(Takes):
    """A row of the table: what the models of some names take."""

    names: tuple[str, ...] = Field(min_length=1)


class Service(_Strict):
    """A service: what it gives or refuses, whatever the model is."""

    name: str
    hosts: tuple[str, ...] = Field(min_length=1)
    openai: bool = False
    refuses_unknown: bool = False
    own_shutdowns: bool = False
    own_tiers: bool = False
    logprobs: Literal["yes", "no"] = "yes"
    most_top_logprobs: dict[str, int] = Field(default_factory=dict)
    fewest_output: dict[str, int] = Field(default_factory=dict)
    source: str = ""
    checked: date | None = None

    @property
    def takes(self) -> Takes:
        """What any model takes here."""
        return Takes(logprobs=self.logprobs, source=self.source, checked=self.checked)


class _Tables(_Strict):
    """A file of rows."""

    instead: str | None = None
    shutdowns: str | None = None
    models: tuple[ModelRow, ...] = ()
    services: tuple[Service, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelTable:
    """The rows of models and services, those of the user's own file first.

    Args:
        own: rows that hold for any server.
        models: rows that hold for services whose names are OpenAI's.
        services: the services.
        instead: the model to name to whoever asked one that gives no logprobs.
        shutdowns: where the shutdowns were read.
    """

    own: tuple[ModelRow, ...]
    models: tuple[ModelRow, ...]
    services: tuple[Service, ...]
    instead: str
    shutdowns: str

    @property
    def rows(self) -> tuple[ModelRow, ...]:
        """All rows of models, in the order in which they are looked at."""
        return self.own + self.models

    def find(self, name: str) -> Takes | None:
        """What the model of a name takes; None where no row fits."""
        return self._found(self.rows, name)

    def _found(self, rows: tuple[ModelRow, ...], name: str) -> Takes | None:
        plain = bare_name(name).name
        spellings = dict.fromkeys((name, plain, _DATED.sub("", plain)))
        for spelling in spellings:
            for row in rows:
                if any(fnmatchcase(spelling, pattern) for pattern in row.names):
                    return row if row.like is None else row.over(self.like(row.like))
        return None

    def like(self, name: str) -> Takes:
        """What the model takes that `like` names.

        Raises:
            JobError: no row has it.
        """
        found = self._found(tuple(row for row in self.rows if row.like is None), name)
        if found is None:
            raise JobError(f"like = {name!r}: no model of the table is called so; `logprobs models` shows them")
        return found

    def service_of(self, base_url: str | None, *, azure: bool = False) -> Service | None:
        """The service at a base URL; None where it is none of the table's."""
        host = (urlsplit(base_url or OPENAI_BASE_URL).hostname or "").lower()
        for service in self.services:
            if any(fnmatchcase(host, pattern) for pattern in service.hosts) or (azure and service.name == "Azure"):
                return service
        return None

    def known(
        self, name: str, *, base_url: str | None, azure: bool = False, takes: Takes | None = None
    ) -> KnownModel | None:
        """What is known of a model at a server; None where nothing is, so that it is asked as it is.

        Args:
            name: as the job has it.
            base_url: the server; None is OpenAI's.
            azure: whether a deployment of Azure is asked.
            takes: what the job itself says.

        Raises:
            JobError: what the job says is like a model that is not known.
        """
        service = self.service_of(base_url, azure=azure)
        found = self._found(self.own, name)
        if found is None and service is not None:
            found = self._found(self.models, name) if service.openai else service.takes
        if takes is not None:
            base = found or Takes()
            found = takes.over(base if takes.like is None else self.like(takes.like))
        return None if found is None or found.anything else KnownModel(name, found, service)


class KnownModel(NamedTuple):
    """A model of which something is known: its name, what it takes, and its service, None for one of no table."""

    name: str
    takes: Takes
    service: Service | None


class BareName(NamedTuple):
    """A model's name without what gateways and fine-tuning add, and whether it is tuned from the model of that name."""

    name: str
    is_tuned: bool = False


def bare_name(name: str) -> BareName:
    """A model's own name.

    >>> bare_name("openai/gpt-6-luna:nitro"), bare_name("ft:gpt-4o-mini-2024-07-18:org::id")
    (BareName(name='gpt-6-luna', is_tuned=False), BareName(name='gpt-4o-mini-2024-07-18', is_tuned=True))
    """
    if (tuned := _FINE_TUNED.match(name)) is not None:
        return BareName(tuned[1], is_tuned=True)
    if name.startswith(_MAKER):
        return BareName(name.removeprefix(_MAKER).partition(":")[0])
    return BareName(name)


@functools.cache
def shipped_table() -> ModelTable:
    """The table that comes with this package."""
    text = resources.files(__package__).joinpath("models.toml").read_text(encoding="utf-8")
    tables = _Tables.model_validate(tomllib.loads(text))
    return ModelTable((), tables.models, tables.services, tables.instead or "", tables.shutdowns or "")


def read_table(path: Path) -> ModelTable:
    """The table with the rows of a file before those that come with this package.

    Raises:
        JobError: the file cannot be read, is no TOML, or has a key or a value that no row has.
    """
    shipped = shipped_table()
    try:
        tables = _Tables.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise JobError(f"the table of models {path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        problems = "; ".join(job_problems(error, _Tables, {}))
        raise JobError(f"the table of models {path}: {problems}") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise JobError(f"the table of models {path} is no TOML: {error}") from error
    return dataclasses.replace(
        shipped,
        own=tables.models,
        services=tables.services + shipped.services,
        instead=tables.instead or shipped.instead,
        shutdowns=tables.shutdowns or shipped.shutdowns,
    )
