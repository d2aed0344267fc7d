"""The job file: prompts, model, limits, and where the answers go.

Paths are relative to the job file, not to the working directory, because a scheduler may start jobs anywhere. API keys
are not part of a job: they are read from the environment.
"""

from __future__ import annotations

import codecs
import json
import math
import os
import re
import tomllib
from datetime import time
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from logprob_store.batch.services import service_of
from logprob_store.decision_questions import problem_of_questions
from logprob_store.errors import JobError
from logprob_store.job_problems import job_problems, toml_problem
from logprob_store.models.table import Takes
from logprob_store.request import OPENAI_BASE_URL, PATHS, problem_of_host, provider_of
from logprob_store.spending.bounds import no_maximum, unbounded_param
from logprob_store.spending.ceilings import Ceilings
from logprob_store.spending.price_table import ListedPrice, listed_price
from logprob_store.spending.prices import LongContext, Prices
from logprob_store.spending.request_tokens import MAXIMA
from logprob_store.usage import STANDARD, TIERS, UNKNOWN_TIER, tier_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from logprob_store.batch.services import BatchService

_SERVICE_FIELDS = {
    *("base_url", "api_key_env", "provider", "azure_api_version", "azure_deployment", "headers", "query"),
    *("takes", "table"),
}
"""Fields that `Job.identity` replaces by the service's one name, or leaves out."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OWN_HEADERS = {"host", "content-length", "content-type", "transfer-encoding", "accept-encoding", "connection"}

_FLEX_TIMEOUT_S = 900.0
_FLEX_RETRY_FOR_S = 3600.0

_NAME = r"^[A-Za-z0-9._-]{1,64}$"
_MOST_HOURS = 24 * 365
_TIME_OF_DAY = r"^(?:[01]?[0-9]|2[0-3]):[0-5][0-9]$"
_HTTP = r"^https?://[^/]+"
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
_FILE_MODE = "^0?[67][0-7]{2}$"
_PATTERNS = {
    _NAME: "has to be of letters without accents, digits, '.', '_' and '-' alone, at most 64",
    _HTTP: 'has to begin with http:// or https:// and a host, as "http://127.0.0.1:8000/v1"',
    _VARIABLE: 'has to be the name of an environment variable, as "MY_API_KEY", never the key itself',
    _FILE_MODE: 'has to be octal digits in quotes, as "0640", of which the first is 6 or 7',
}
"""What the regular expressions ask for, in words."""

_REACH_FOR_S = 60.0

_DOLLAR_CEILINGS = ("max_cost_usd", "job_max_cost_usd", "cache_max_cost_usd")

_FORBIDDEN_PARAMS = {
    "model": "set model.name",
    "messages": "the prompts fill it",
    "prompt": "the prompts fill it",
    "input": "the prompts fill it",
    "questions": "write [[questions]]",
}


_Price = Annotated[float, Field(ge=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Python takes true for 1: of a price, of seconds or of calls it is a mistake."""
        if isinstance(value, bool) and info.field_name in _numbers_of(cls):
            raise PydanticCustomError("float_type", "Input should be a number")
        return value


@cache
def _numbers_of(section: type[BaseModel]) -> frozenset[str]:
    """The fields of a section that are numbers, or None."""
    kinds = {name: {field.annotation, *get_args(field.annotation)} for name, field in section.model_fields.items()}
    return frozenset(name for name, found in kinds.items() if not found.isdisjoint({int, float, _Price}))


class PromptsSection(_Section):
    """The file of the prompts, and the columns that they are made from."""

    path: str = Field(min_length=1)
    id: str | None = None
    prompt: str | None = None
    system: str | None = None
    messages: str | None = None
    template: str | None = None
    continuations: str | None = None
    questions: str | None = None
    params: str | None = None
    keep: tuple[str, ...] = ()
    select: Literal["all", "new", "changed", "failed"] = "all"

    @model_validator(mode="after")
    def _selected_by_id(self) -> Self:
        if self.select in {"changed", "failed"} and self.id is None:
            raise ValueError(
                f'select = "{self.select}" needs id, the column by which a prompt is found in earlier runs'
            )
        return self

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("prompt", "messages", "template") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"give exactly one of prompt, messages and template; found {found}")
        if self.messages is not None and self.system is not None:
            raise ValueError("system goes with prompt or template; put it into the messages themselves")
        return self


class FromEnvironment(_Section):
    """A value that stands in an environment variable, so that it is in no file."""

    env: str = Field(min_length=1)


class ModelSection(_Section):
    """The model, its service, and the parameters of each request."""

    endpoint: Literal["chat", "completions", "responses", "decisions"] = "chat"
    mode: Literal["generate", "score"] = "generate"
    score_by: Literal["echo", "prompt_logprobs"] = "echo"
    name: str = Field(min_length=1)
    base_url: str | None = Field(default=None, pattern=_HTTP)
    api_key_env: str | None = Field(default=None, pattern=_VARIABLE)
    azure_api_version: str | None = None
    azure_deployment: str | None = None
    provider: str | None = Field(default=None, min_length=1)
    headers: dict[str, str | FromEnvironment] = Field(default_factory=dict)
    query: dict[str, str] = Field(default_factory=dict)
    logprobs: bool = True
    top_logprobs: int = Field(default=5, ge=0)
    params: dict[str, Any] = Field(default_factory=dict)
    samples: int = Field(default=1, ge=1, lt=100_000)
    takes: Takes | None = None
    table: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _params_are_parameters(self) -> Self:
        for name in self.params:
            if name in _FORBIDDEN_PARAMS:
                raise ValueError(f"params.{name} cannot be set here: {_FORBIDDEN_PARAMS[name]}")
        return self

    @model_validator(mode="after")
    def _headers_can_be_sent(self) -> Self:
        for name, value in self.headers.items():
            if not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN_HEADERS:
                raise ValueError(f"headers.{name} cannot be set: it is no header's name, or one that each call has")
            if isinstance(value, str) and not (value.isascii() and value.isprintable()):
                raise ValueError(f"headers.{name} holds a line break or a character that no header can hold")
        return self

    @model_validator(mode="after")
    def _base_url_has_no_endpoint(self) -> Self:
        for path in PATHS.values():
            if (self.base_url or "").rstrip("/").endswith(path):
                base = (self.base_url or "").rstrip("/").removesuffix(path)
                raise ValueError(f"base_url holds the endpoint's own path, which is added to it: write {base}")
        return self

    @model_validator(mode="after")
    def _base_url_can_be_reached(self) -> Self:
        if self.base_url is not None and (problem := problem_of_host(self.base_url)) is not None:
            raise ValueError(f"base_url {problem}")
        return self

    @model_validator(mode="after")
    def _azure_is_whole(self) -> Self:
        if self.azure_api_version is None and self.azure_deployment is not None:
            raise ValueError("azure_deployment needs azure_api_version")
        if self.azure_api_version is not None and self.base_url is None:
            raise ValueError("azure_api_version needs base_url, the resource's address: https://NAME.openai.azure.com")
        return self

    @model_validator(mode="after")
    def _score_asks_for_scores(self) -> Self:
        if self.mode == "generate":
            if self.score_by != "echo":
                raise ValueError(f'score_by = "{self.score_by}" needs mode = "score"')
            return self
        if self.endpoint != "completions":
            raise ValueError(
                f'mode = "score" needs endpoint = "completions", not "{self.endpoint}": '
                "no other endpoint returns the logprobs of the text that is sent"
            )
        if not self.logprobs:
            raise ValueError('mode = "score" needs logprobs: take logprobs = false out')
        if self.score_by == "echo" and not self.params.get("echo", True):
            raise ValueError('params.echo = false contradicts mode = "score": take it out')
        return self

    @property
    def deployment(self) -> str | None:
        """The Azure deployment, by default the model's name; None if the job is not for Azure."""
        return None if self.azure_api_version is None else self.azure_deployment or self.name

    @property
    def identity(self) -> str:
        """The service in request keys: `provider`, else the base URL without credentials."""
        if self.provider is not None:
            return self.provider
        service = provider_of(self.base_url or OPENAI_BASE_URL)
        return service if self.deployment is None else f"{service}/openai/deployments/{self.deployment}"


class ChoiceOption(_Section):
    """An option of a choice: its value, and what it means."""

    value: StrictStr | StrictBool
    description: str | None = None


class ScoreLevel(_Section):
    """A level of a score: its label, and what it means."""

    label: str
    description: str | None = None


class QuestionSection(_Section):
    """A typed question of the endpoint `decisions`; its texts are templates over the columns of a row."""

    name: str = Field(min_length=1)
    type: Literal["predicate", "choice", "score"]
    instructions: str = Field(min_length=1)
    choices: str | tuple[StrictStr | StrictBool | ChoiceOption, ...] | None = None
    levels: str | tuple[StrictStr | ScoreLevel, ...] | None = None

    @model_validator(mode="after")
    def _options_of_its_type(self) -> Self:
        for name, kind in (("choices", "choice"), ("levels", "score")):
            given = getattr(self, name)
            if (given is None) is (self.type == kind):
                verb = "needs" if given is None else "has no"
                raise ValueError(f'a question of type "{self.type}" {verb} {name}')
            if isinstance(given, str) and not (given.startswith("{") and given.endswith("}")):
                raise ValueError(f'{name} is {given!r}: write a list, or "{{COLUMN}}" for the list in a column')
        return self

    def table(self) -> dict[str, Any]:
        """The question with each option as an object."""
        table = self.model_dump(mode="json", exclude_none=True)
        for name, key in (("choices", "value"), ("levels", "label")):
            if isinstance(options := table.get(name), list):
                table[name] = [option if isinstance(option, dict) else {key: option} for option in options]
        return table


def _with_some_options(question: QuestionSection) -> dict[str, Any]:
    """A question that can be checked before a row is read: with two options in place of a column of them."""
    table = question.table()
    for name, key in (("choices", "value"), ("levels", "label")):
        if isinstance(table.get(name), str):
            table[name] = [{key: "a"}, {key: "b"}]
    return table


class LimitsSection(_Section):
    """Calls at once and per minute, attempts and times of one prompt, and ceilings of a run, a job and a cache."""

    concurrency: int = Field(default=64, ge=1, le=10_000)
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    attempts: int = Field(default=6, ge=1, le=100)
    timeout_s: float = Field(default=600.0, gt=0)
    retry_for_s: float = Field(default=600.0, gt=0)
    max_answer_bytes: int = Field(default=1 << 28, ge=1 << 10, lt=1 << 30)
    max_cost_usd: float | None = Field(default=None, gt=0)
    max_requests: int | None = Field(default=None, gt=0)
    max_tokens: int | None = Field(default=None, gt=0)
    job_max_cost_usd: float | None = Field(default=None, gt=0)
    job_max_requests: int | None = Field(default=None, gt=0)
    job_max_tokens: int | None = Field(default=None, gt=0)
    cache_max_cost_usd: float | None = Field(default=None, gt=0)
    cache_max_requests: int | None = Field(default=None, gt=0)
    cache_max_tokens: int | None = Field(default=None, gt=0)
    harmless_params: tuple[str, ...] = ()

    @property
    def reach_for_s(self) -> float:
        """Seconds that a server is waited for that was never reached: a minute, unless the job sets `retry_for_s`."""
        return self.retry_for_s if "retry_for_s" in self.model_fields_set else _REACH_FOR_S

    @property
    def ceilings(self) -> Ceilings:
        """The most that a run may spend."""
        return Ceilings(self.max_cost_usd, self.max_requests, self.max_tokens)

    @property
    def job_ceilings(self) -> Ceilings:
        """The most that all runs of the job may spend together."""
        return Ceilings(self.job_max_cost_usd, self.job_max_requests, self.job_max_tokens)

    @property
    def cache_ceilings(self) -> Ceilings:
        """The most that all jobs may spend together that share the cache folder and keep a ledger in it."""
        return Ceilings(self.cache_max_cost_usd, self.cache_max_requests, self.cache_max_tokens)

    @property
    def need_bounds(self) -> bool:
        """Whether each call must have a worst case in tokens."""
        return any(most.need_bounds for most in (self.ceilings, self.job_ceilings, self.cache_ceilings))


class LongContextSection(_Section):
    """How prices rise for all tokens of a call whose prompt is long."""

    above_tokens: int = Field(gt=0)
    input_factor: _Price
    output_factor: _Price


_A_TIERS_PRICES = "has to be a factor, or a section with input_usd_per_million_tokens and output_usd_per_million_tokens"


class TierPricesSection(_Section):
    """What tokens cost by one service tier: a factor on the standard prices, or prices; a number is the factor."""

    factor: _Price | None = None
    input_usd_per_million_tokens: _Price | None = None
    output_usd_per_million_tokens: _Price | None = None
    cached_input_usd_per_million_tokens: _Price | None = None
    cache_write_usd_per_million_tokens: _Price | None = None

    @model_validator(mode="before")
    @classmethod
    def _number_is_factor(cls, value: Any) -> Any:
        if type(value) not in {int, float, dict, cls}:
            raise ValueError(f"{_A_TIERS_PRICES}, not {json.dumps(value, default=str)}")
        return {"factor": value} if type(value) in {int, float} else value

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.factor is not None and self.model_fields_set != {"factor"}:
            raise ValueError("give a factor, or prices, not both")
        if self.factor is None and None in {self.input_usd_per_million_tokens, self.output_usd_per_million_tokens}:
            raise ValueError(_A_TIERS_PRICES)
        return self

    def prices(self, standard: Prices) -> Prices:
        """The prices, beside those of the standard tier."""
        if self.factor is not None:
            return standard.scaled(self.factor)
        return Prices(
            self.input_usd_per_million_tokens or 0.0,
            self.output_usd_per_million_tokens or 0.0,
            self.cached_input_usd_per_million_tokens,
            self.cache_write_usd_per_million_tokens,
        )


class PricesSection(_Section):
    """What tokens cost, in US dollars per million, by the standard tier; those of input and output, or nothing."""

    input_usd_per_million_tokens: _Price | None = None
    output_usd_per_million_tokens: _Price | None = None
    cached_input_usd_per_million_tokens: _Price | None = None
    cache_write_usd_per_million_tokens: _Price | None = None
    long_context: LongContextSection | None = None
    tiers: dict[str, TierPricesSection] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _tiers_are_known(self) -> Self:
        for name in self.tiers:
            tier = tier_of(name)
            if not tier or (tier == UNKNOWN_TIER and name != UNKNOWN_TIER):
                known = ", ".join(tier for tier in TIERS if tier not in {STANDARD, UNKNOWN_TIER})
                raise ValueError(
                    f"tiers.{name}: is no tier with a price of its own; known are {known}, and {UNKNOWN_TIER} is for "
                    "all others"
                )
        if len({tier_of(name) for name in self.tiers}) < len(self.tiers):
            raise ValueError("tiers: fast and priority are one tier: keep one of them")
        return self

    @model_validator(mode="after")
    def _whole(self) -> Self:
        given = (self.input_usd_per_million_tokens, self.output_usd_per_million_tokens)
        missing = [name for name, price in zip(("input", "output"), given, strict=True) if price is None]
        if missing and self.model_fields_set:
            raise ValueError(f"{' and '.join(missing)}_usd_per_million_tokens: is missing")
        return self

    @property
    def prices(self) -> Prices | None:
        """The prices; None if none are given."""
        if self.input_usd_per_million_tokens is None or self.output_usd_per_million_tokens is None:
            return None
        standard = Prices(
            self.input_usd_per_million_tokens,
            self.output_usd_per_million_tokens,
            self.cached_input_usd_per_million_tokens,
            self.cache_write_usd_per_million_tokens,
            None if self.long_context is None else LongContext(**self.long_context.model_dump()),
        )
        tiers = {tier_of(name) or STANDARD: priced.prices(standard) for name, priced in self.tiers.items()}
        return standard.with_tiers(tiers)


class CacheSection(_Section):
    """The folder of raw answers, and whether they are reused."""

    path: str = ".logprobs/cache"
    mode: Literal["reuse", "refresh", "off"] = "reuse"


class TransportSection(_Section):
    """Whether a server is asked call by call, by which service tier, or in batches, or recordings are replayed."""

    kind: Literal["live", "batch", "replay"] = "live"
    fixtures: str | None = None
    tier: Literal["default", "flex", "priority"] | None = None
    flex_fallback_s: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _only_flex_falls_back(self) -> Self:
        if self.flex_fallback_s is not None and self.tier != "flex":
            raise ValueError('flex_fallback_s needs tier = "flex"')
        return self


class BatchSection(_Section):
    """How calls are packed into batches, and what becomes of those that are late.

    `deadline` is a time of day ("06:00"), or the hours that the run may take; what has no answer by then is asked by
    `fallback`. With `service = "vllm"`, input files are written into `folder`, and answers are read there.
    """

    service: Literal["openai", "azure", "groq", "vllm"] | None = None
    folder: str | None = Field(default=None, min_length=1)
    lines: int | None = Field(default=None, ge=1)
    megabytes: float | None = Field(default=None, gt=0)
    queued_tokens: int | None = Field(default=None, ge=1)
    window: str = Field(default="24h", min_length=1)
    deadline: str | float | None = None
    fallback: Literal["live"] | None = None
    poll_s: float = Field(default=60.0, gt=0)

    @field_validator("deadline", mode="before")
    @classmethod
    def _time_of_day(cls, said: Any) -> Any:
        """TOML has times of its own."""
        if isinstance(said, time):
            return f"{said:%H:%M}"
        is_number = isinstance(said, (int, float)) and math.isfinite(said)
        if said is not None and not (is_number or isinstance(said, str)):
            raise ValueError('write a time of day, as "06:00", or a number of hours')
        return said

    @model_validator(mode="after")
    def _deadline_and_fallback(self) -> Self:
        said = self.deadline
        if isinstance(said, str) and not re.fullmatch(_TIME_OF_DAY, said):
            raise ValueError(f'deadline is {said!r}: write a time of day, as "06:00", or a number of hours')
        if isinstance(said, float) and not 0 < said < _MOST_HOURS:
            raise ValueError(f'deadline is {said:g}: write hours that are more than 0, or a time of day, as "06:00"')
        if (self.deadline is None) is not (self.fallback is None):
            raise ValueError(
                'deadline and fallback go together: deadline = "06:00" says when, fallback = "live" what is done then'
            )
        if (self.folder is None) is (self.service == "vllm"):
            raise ValueError('folder and service = "vllm" go together: input files are written there, answers read')
        return self


class StoreSection(_Section):
    """The folder of the tables, how many bytes of raw answers make a part, and who may read the files."""

    path: str = Field(min_length=1)
    part_bytes: int = Field(default=32 << 20, ge=1)
    file_mode: Annotated[str, Field(pattern=_FILE_MODE)] = "0600"

    @property
    def mode(self) -> int:
        """The permissions of new files of the store and the cache."""
        return int(self.file_mode, 8)


class Job(_Section):
    """A whole job file.

    `base` is the folder that relative paths start from: the job file's folder. `file` is the job file as it was named,
    for messages; None for a job that was made in Python.
    """

    name: Annotated[str, Field(pattern=_NAME)]
    prompts: PromptsSection
    model: ModelSection
    limits: LimitsSection = LimitsSection()
    prices: PricesSection = PricesSection()
    cache: CacheSection = CacheSection()
    transport: TransportSection = TransportSection()
    batch: BatchSection = BatchSection()
    store: StoreSection
    questions: tuple[QuestionSection, ...] = ()
    base: Path = Field(default=Path(), exclude=True)
    file: Path | None = Field(default=None, exclude=True)

    def __repr__(self) -> str:
        """The name, the model and where it came from, on one line."""
        source = "" if self.file is None else f" of {str(self.file)!r}"
        return f"<Job {self.name!r}{source}: {self.model.name}, prompts {str(self.prompts.path)!r}>"

    @model_validator(mode="after")
    def _replay_needs_fixtures(self) -> Self:
        if self.transport.kind == "replay" and self.transport.fixtures is None:
            raise ValueError('transport.kind = "replay" needs transport.fixtures, a file or folder of recordings')
        return self

    @model_validator(mode="after")
    def _batches_can_be_sent(self) -> Self:
        if self.transport.kind != "batch":
            return self
        if self.cache.mode == "off":
            raise ValueError('transport.kind = "batch" needs the cache: answers are in it first. Take cache.mode out')
        if self.transport.tier is not None:
            raise ValueError('transport.tier has no meaning for transport.kind = "batch": a batch is a tier')
        if "service_tier" in self.model.params:
            raise ValueError('model.params.service_tier has no meaning for transport.kind = "batch": a batch is a tier')
        if self.model.params.get("stream"):
            raise ValueError('model.params.stream cannot be asked for with transport.kind = "batch"')
        self.batch_service.check_endpoint(self.model.endpoint)
        if self.model.deployment not in {None, self.model.name}:
            raise ValueError(
                "a batch at Azure names the deployment as its model: make model.name the deployment's name, and take "
                "model.azure_deployment out"
            )
        return self

    @model_validator(mode="after")
    def _questions_are_asked(self) -> Self:
        column = self.prompts.questions
        if self.model.endpoint != "decisions":
            if self.questions or column is not None:
                what = "[[questions]]" if self.questions else "prompts.questions"
                raise ValueError(f'{what}: questions are asked by model.endpoint = "decisions" alone')
            return self
        if bool(self.questions) is (column is not None):
            raise ValueError(
                'model.endpoint = "decisions" needs [[questions]], or prompts.questions, a column that holds them'
                + ("; found both" if self.questions else "")
            )
        if self.questions and (problem := problem_of_questions([_with_some_options(q) for q in self.questions])):
            raise ValueError(f"questions: {problem}")
        return self

    @model_validator(mode="after")
    def _continuations_are_scored_once(self) -> Self:
        if self.prompts.continuations is not None:
            if self.model.mode != "score":
                raise ValueError('prompts.continuations needs model.mode = "score"')
            if self.model.samples != 1:
                raise ValueError("model.samples must be 1 with prompts.continuations: each of them is a sample")
        return self

    @model_validator(mode="after")
    def _tier_can_be_sent(self) -> Self:
        transport = self.transport
        if transport.tier is not None and "service_tier" in self.model.params:
            raise ValueError("transport.tier and model.params.service_tier both name the service tier: keep one")
        if transport.tier is not None and self.model.endpoint not in {"chat", "responses"}:
            raise ValueError(
                'transport.tier needs model.endpoint = "chat" or "responses": others have no service tiers'
            )
        if transport.flex_fallback_s is not None and transport.flex_fallback_s >= self.retry_for_s:
            most = f"limits.retry_for_s ({self.retry_for_s:g})"
            raise ValueError(
                f"transport.flex_fallback_s has to be less than {most}, as a prompt is not tried again after that"
            )
        return self

    @model_validator(mode="after")
    def _ceilings_can_be_kept(self) -> Self:
        limits, params, endpoint = self.limits, self.model.params, self.model.endpoint
        dollars = [name for name in _DOLLAR_CEILINGS if getattr(limits, name) is not None]
        prices = self.prices_at_service
        if dollars and prices is None:
            names = "prices.input_usd_per_million_tokens and prices.output_usd_per_million_tokens"
            raise ValueError(f"limits.{dollars[0]} needs {names}{self._why_no_price}")
        if dollars and prices is not None and not prices.knows(tier_of(self.transport.tier) or STANDARD):
            raise ValueError(
                f"limits.{dollars[0]} needs prices.tiers.{self.transport.tier}, what tokens cost by transport.tier"
            )
        if not limits.need_bounds:
            return self
        scores = self.model.mode == "score"
        if not scores and self.prompts.params is None and no_maximum(params, endpoint):
            names = " or ".join(f"model.params.{name}" for name in MAXIMA[endpoint])
            raise ValueError(
                f"limits.max_cost_usd and limits.max_tokens need {names}, the most tokens that an answer may have: "
                "without it nothing bounds what a call can cost"
            )
        body = {"model": self.model.name, **params}
        if (what := unbounded_param(body, endpoint, harmless=limits.harmless_params, prices=prices)) is not None:
            raise ValueError(f"model.params: {what}")
        return self

    @property
    def batch_service(self) -> BatchService:
        """The service that takes batches: the one that the job names, or the one at its address."""
        model = self.model
        return service_of(self.batch.service, model.base_url, azure=model.azure_api_version is not None)

    @property
    def asks_server(self) -> bool:
        """Whether a server is asked, call by call or in batches; a replay asks none."""
        return self.transport.kind != "replay"

    @property
    def question_tables(self) -> list[dict[str, Any]]:
        """The questions of the job file, each with its options as objects or as the column that has them."""
        return [question.table() for question in self.questions]

    def resolve(self, path: str) -> Path:
        """A path of the job file, with `~` expanded and relative to `base`.

        Raises:
            JobError: the path begins with `~`, and the home folder is not known; or it is no UTF-8.
        """
        try:
            resolved = Path(os.path.normpath(self.base / Path(path).expanduser()))
        except RuntimeError as error:
            raise JobError(f"{path}: the home folder is not known, HOME is not set: write the whole path") from error
        _check_utf8(resolved)
        return resolved

    @property
    def store_folder(self) -> Path:
        """The folder of the tables.

        Raises:
            JobError: as `resolve`.
        """
        return self.resolve(self.store.path)

    @property
    def cache_folder(self) -> Path | None:
        """The folder of raw answers; None if the cache is off, and for a replay, which answers from its fixtures.

        Raises:
            JobError: as `resolve`.
        """
        return None if self.cache.mode == "off" or self.transport.kind == "replay" else self.ledger_folder

    @property
    def ledger_folder(self) -> Path:
        """The folder of the ledger that runs with ceilings share: that of the cache, also where the cache is off.

        Raises:
            JobError: as `resolve`.
        """
        return self.resolve(self.cache.path)

    @property
    def batch_folder(self) -> Path | None:
        """The folder of the files of batches; None where a service has them.

        Raises:
            JobError: as `resolve`.
        """
        return None if self.batch.folder is None else self.resolve(self.batch.folder)

    @property
    def table_path(self) -> Path | None:
        """The file of the user's own rows of models; None if the job names none.

        Raises:
            JobError: as `resolve`.
        """
        return None if self.model.table is None else self.resolve(self.model.table)

    @property
    def fixtures_path(self) -> Path:
        """The file or folder of recordings for a replay.

        Raises:
            JobError: as `resolve`, or the job names none.
        """
        if self.transport.fixtures is None:
            raise JobError("transport replay needs transport.fixtures, a file or folder of recordings")
        return self.resolve(self.transport.fixtures)

    @property
    def listed_price(self) -> ListedPrice | None:
        """The prices that are known of the model without the job's own: at OpenAI's own address alone."""
        model = self.model
        at_openai = model.base_url is None or provider_of(model.base_url) == provider_of(OPENAI_BASE_URL)
        return listed_price(model.name) if at_openai else None

    @property
    def token_prices(self) -> Prices | None:
        """What tokens cost: the job's own prices, else those that are listed; None if neither are known.

        A replay has the job's own alone: it pays nothing.
        """
        return self.prices_at_service if self.asks_server else self._as_billed(self.prices.prices)

    @cached_property
    def prices_at_service(self) -> Prices | None:
        """What tokens cost where the model is asked, also in a replay."""
        own, listed = self.prices.prices, self.listed_price
        if own is None:
            return self._as_billed(None if listed is None else listed.prices)
        return self._as_billed(own if listed is None else own.completed_by(listed.prices))

    def _as_billed(self, prices: Prices | None) -> Prices | None:
        return prices.of_input_alone() if prices is not None and self.model.endpoint == "decisions" else prices

    @property
    def _why_no_price(self) -> str:
        return f": no price of {self.model.name} is known without them" if self._is_openai else ""

    @property
    def _is_openai(self) -> bool:
        """Whether OpenAI is asked, also at its addresses for single regions, where other prices hold."""
        host = urlsplit(self.model.base_url or OPENAI_BASE_URL).hostname or ""
        return f".{host}".endswith(".api.openai.com")

    @property
    def about_prices(self) -> str | None:
        """Where the prices come from, if they are not the job's own; that none are known; None where nobody is paid."""
        if self.prices.prices is not None or self.transport.kind == "replay":
            return None
        if (listed := self.listed_price) is not None:
            return listed.sentence()
        if not self._is_openai:
            return None
        where = "" if self.model.base_url is None else f" at {self.model.base_url}"
        return f"no price of {self.model.name} is known{where}: set [prices]"

    @property
    def timeout_s(self) -> float:
        """Seconds that a call may take: 15 minutes by the tier `flex`, unless the job says otherwise."""
        return self._limit_by_tier("timeout_s", _FLEX_TIMEOUT_S)

    @property
    def retry_for_s(self) -> float:
        """Seconds during which a prompt is tried again: an hour by the tier `flex`, unless the job says otherwise."""
        return self._limit_by_tier("retry_for_s", _FLEX_RETRY_FOR_S)

    def _limit_by_tier(self, name: str, by_flex: float) -> float:
        is_unsaid = name not in self.limits.model_fields_set
        said: float = getattr(self.limits, name)
        return by_flex if is_unsaid and self.transport.tier == "flex" else said

    @property
    def ceilings(self) -> dict[str, Ceilings]:
        """The most that a `run`, all runs of the `job`, and all users of the `cache` may spend; none for a replay."""
        limits = self.limits if self.asks_server else LimitsSection()
        return {"run": limits.ceilings, "job": limits.job_ceilings, "cache": limits.cache_ceilings}

    @property
    def key_variable(self) -> str | None:
        """The environment variable that has the API key; None if the job needs no key.

        OPENAI_API_KEY is sent to OpenAI's own address only: a job with a `base_url` names its variable or has none.
        """
        if not self.asks_server or (self.transport.kind == "batch" and self.batch.service == "vllm"):
            return None
        if self.model.azure_api_version is not None:
            return self.model.api_key_env or "AZURE_OPENAI_API_KEY"
        return self.model.api_key_env or ("OPENAI_API_KEY" if self.model.base_url is None else None)

    @property
    def header_variables(self) -> tuple[str, ...]:
        """The environment variables that hold values of `model.headers`."""
        values = self.model.headers.values() if self.asks_server else ()
        return tuple(dict.fromkeys(value.env for value in values if isinstance(value, FromEnvironment)))

    def identity(self) -> dict[str, Any]:
        """The settings that shape the rows of a run, by dotted name, so that two jobs can be compared line by line.

        Limits, cache, transport and paths are not among them: they do not change which answers a run has.
        """
        model = self.model.model_dump(mode="json", exclude=_SERVICE_FIELDS)
        prompts = self.prompts.model_dump(mode="json", exclude={"path"})
        flat: dict[str, Any] = {"model.provider": self.model.identity}
        flat |= {f"model.{name}": value for name, value in model.items() if name != "params"}
        flat |= {f"model.params.{name}": value for name, value in self.model.params.items()}
        flat |= {f"prompts.{name}": value for name, value in prompts.items()}
        if self.prompts.select == "all":
            del flat["prompts.select"]  # so that runs begun before it existed can be continued
        if self.model.mode == "generate":
            # Left out where they have no effect, so that runs begun before scoring existed can be continued.
            for name in ("model.mode", "model.score_by", "prompts.continuations"):
                del flat[name]
        if self.model.endpoint != "decisions":
            del flat["prompts.questions"]
        flat |= {f"questions.{table['name']}": table for table in self.question_tables}
        return flat


def _check_utf8(path: Path) -> None:
    """Raise JobError for a path that is no UTF-8: the libraries that read and write Parquet take no other."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise JobError(
            f"the path {shown} is no UTF-8: Parquet files cannot be read or written there. Rename it"
        ) from None


def load_job(path: str | Path) -> Job:
    """Read and check a job file (TOML).

    Raises:
        JobError: the file is missing, is no TOML, or has unknown keys or wrong values; the message lists all of them.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        hint = "; name the job file in it" if path.is_dir() else ""
        raise JobError(f"{path}: cannot be read: {error.strerror}{hint}") from error
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise JobError(f"{path}: is UTF-16 text: save it as UTF-8")
    try:
        # Windows editors begin UTF-8 files with a byte order mark.
        text = raw.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        if raw.startswith(b"PAR1"):
            raise JobError(
                f"{path}: is a Parquet file, and no job file; `logprobs init --prompts {path}` writes one for it"
            ) from error
        raise JobError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also for a number of 5,000 digits, and for lists in lists in lists
        raise JobError(
            f"{path}: is not valid TOML: {toml_problem(error)}. `logprobs init` writes a job file to begin with"
        ) from error
    for name in ("base", "file"):
        if name in table:
            raise JobError(f"{path}: {name}: unknown key")
    base = path.resolve().parent
    _check_utf8(base)
    try:
        return Job.model_validate({**table, "base": base, "file": path})
    except ValidationError as error:
        raise JobError(_error_message(path, error)) from error


def make_job(name: str, *, base: Path = Path(), **sections: Mapping[str, Any]) -> Job:
    """A job that is made in Python, checked like a job file.

    Args:
        name: the job's name.
        base: the folder that relative paths start from; the working directory by default.
        sections: `prompts`, `model`, `store` and so on, each as in a job file.

    Raises:
        JobError: keys are unknown or values wrong; the message lists all of them.
    """
    try:
        return Job.model_validate({"name": name, **sections, "base": base})
    except ValidationError as error:
        raise JobError(_error_message(Path(name), error)) from error


def override(
    job: Job,
    *,
    store: Path | None = None,
    transport: str | None = None,
    fixtures: Path | None = None,
    base_url: str | None = None,
    select: str | None = None,
) -> Job:
    """The job with some of its settings replaced; paths given here are relative to the working directory.

    Raises:
        JobError: the result is no valid job.
    """
    table = job.model_dump(exclude_unset=True)
    if store is not None:
        table["store"]["path"] = str(store.absolute())
    if transport is not None:
        table.setdefault("transport", {})["kind"] = transport
    if fixtures is not None:
        table.setdefault("transport", {})["fixtures"] = str(fixtures.absolute())
    if base_url is not None:
        table["model"]["base_url"] = base_url
    if select is not None:
        table["prompts"]["select"] = select
    try:
        return Job.model_validate({**table, "base": job.base, "file": job.file})
    except ValidationError as error:
        raise JobError(_error_message(Path("command line"), error)) from error


def _error_message(path: Path, error: ValidationError) -> str:
    return "\n".join(f"{path}: {line}" for line in job_problems(error, Job, _PATTERNS))
