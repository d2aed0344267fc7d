"""What a model would refuse of a request, known before it is asked, and what to write instead.

A request is never changed here: the caller gets the reason and the lines to write.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from logprob_store.models.table import bare_name
from logprob_store.request import RESPONSES_LOGPROBS, build_body, make_request
from logprob_store.spending.price_table import listed_price
from logprob_store.spending.request_tokens import MAXIMA, whole_number
from logprob_store.toml_values import toml_value
from logprob_store.usage import STANDARD, tier_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from logprob_store.models.table import KnownModel, ModelTable
    from logprob_store.request import Request

_NO_PARAMS: Final = frozenset(
    {"model", "messages", "prompt", "input", "logprobs", "top_logprobs", "include", "stream_options", "stream"}
)
"""Parts of a body that are no parameters, or that no model refuses."""
_DEFAULTS: Final[Mapping[str, Any]] = {
    "temperature": 1,
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
}
"""Values that are taken where others are refused."""
_OF_DECISIONS: Final = frozenset(
    {"model", "input", "questions", "prompt_cache_key", "prompt_cache_options", "safety_identifier"}
)
"""All that a request for decisions may have."""
_SOURCE_OF_DECISIONS: Final = "decisions.create of OpenAI's SDK, 3.54"
_EVERY_MAXIMUM: Final = tuple(dict.fromkeys(name for names in MAXIMA.values() for name in names))
NO_EFFORT: Final = "none"
_EXAMPLE_TOKENS: Final = 64
_ENOUGH_TOKENS: Final = 16
"""A maximum of output tokens that any model takes."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a model would refuse a request.

    `write` has the keys of a job's `[model]` to write instead, with their values, `write_transport` those of its
    `[transport]`; both are empty where only another model or server would do. `source` is where it was read, if that is
    not the model's row.
    """

    model: KnownModel
    why: str
    write: Mapping[str, Any] = field(default_factory=dict)
    write_transport: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    def sentence(self, *, where: str = "under [model]", in_python: bool = False) -> str:
        """The refusal with what to write, and where it was read. Several lines of TOML stand below it.

        Args:
            where: the lines are to be written.
            in_python: write them as arguments, not as lines of TOML.
        """
        takes = self.model.takes
        lines = [*map(toml_line, self.write.items())]
        of_transport = [*map(toml_line, self.write_transport.items())]
        read = f" of {takes.checked}" if takes.checked is not None else ""
        source = self.source or takes.source
        source = f' ({source}{read}; if that no longer holds: takes = "anything")' if source else ""
        without = ""
        if takes.logprobs == "no" and (not lines or "name" in self.write):
            without = ", or logprobs = false to do without"
        if in_python and lines:
            arguments = ", ".join(f"{key}={value!r}" for key, value in self.write.items())
            without = without.replace(" = false", "=False")
            return f"{self.model.name} {self.why}: write {where}: {arguments}{without}{source}"
        places = {where: lines, "under [transport]": of_transport}
        written = {place: held for place, held in places.items() if held}
        if not written:
            return f"{self.model.name} {self.why}: ask another model or server{without}{source}"
        if len(lines) + len(of_transport) == 1:
            [(place, [line])] = written.items()
            return f"{self.model.name} {self.why}: write {place}: {line}{without}{source}"
        below = "\nand ".join("\n  ".join([f"{place}:", *held]) for place, held in written.items())
        or_without = f"{without.removeprefix(', or ')}, or " if without else ""
        return f"{self.model.name} {self.why}{source}: {or_without}write {below}"


def toml_line(item: tuple[str, Any]) -> str:
    """A key and its value as a line of TOML."""
    key, value = item
    return f"{key} = {toml_value(value)}"


def refusal_of(
    request: Request, model: KnownModel, table: ModelTable, *, sent_tier: str | None = None
) -> Refusal | None:
    """Why a model would refuse a request; None where nothing is known against it.

    Args:
        request: to be sent.
        model: that it asks.
        table: of which a model is named that would do.
        sent_tier: the service tier that it is sent by if it names none.
    """
    if request.endpoint not in model.takes.endpoints:
        return _not_offered(request, model, table)
    if request.asks_logprobs and model.takes.logprobs == "no":
        return _without_logprobs(request, model, table)
    draft = _Draft.of(request, model)
    if request.asks_decisions:
        said = [(why, _SOURCE_OF_DECISIONS) for why in draft.drop_of_other_endpoints()]
    else:
        reasons = [*draft.correct(wants_logprobs=request.asks_logprobs), *draft.raise_maximum()]
        said = [(why, model.takes.source) for why in reasons]
    write_transport: dict[str, Any] = {}
    own_tier = draft.params.get("service_tier")
    if (what := _not_served(own_tier or sent_tier, model)) is not None:
        said.append((what, _source_of_tiers(model)))
        if own_tier is None:
            write_transport["tier"] = "default"
        else:
            draft.drop("service_tier")
    write: dict[str, Any] = {"params": draft.params} if draft.is_changed else {}
    if (most := _most_alternatives(request, model)) is not None:
        said.append((f"gives at most {most} alternatives of a token", model.takes.source))
        write["top_logprobs"] = most
    if not said:
        return None
    sources = ", ".join(dict.fromkeys(source for _, source in said if source))
    return Refusal(model, _listed([why for why, _ in said]), write, write_transport, sources)


def _not_offered(request: Request, model: KnownModel, table: ModelTable) -> Refusal:
    """The refusal of a model that is not offered at an endpoint; questions go to another model."""
    offered = " and ".join(f'"{name}"' for name in model.takes.endpoints)
    instead = table.find(table.instead)
    decides = request.asks_decisions and instead is not None and "decisions" in instead.endpoints
    write = {"name": table.instead} if decides else {"endpoint": model.takes.endpoints[0]}
    return Refusal(model, f'is not offered at endpoint "{request.endpoint}", only at {offered}', write)


def _source_of_tiers(model: KnownModel) -> str:
    """Where the tiers of a model were read: with its prices."""
    listed = listed_price(bare_name(model.name).name)
    return model.takes.source if listed is None else listed.source


def _not_served(asked: Any, model: KnownModel) -> str | None:
    """That a model has not the service tier which is asked for, as the end of a sentence about it; None if it may."""
    offered = model.takes.tiers
    if offered is None or (model.service is not None and model.service.own_tiers):
        return None
    tier = tier_of(asked)
    if tier in {None, STANDARD, *offered}:
        return None
    named = " and ".join(f'"{name}"' for name in ("default", *offered))
    return f'is not served by the tier "{asked}", only by {named}'


def lines_for(
    model: KnownModel, endpoint: str, table: ModelTable, params: Mapping[str, Any] | None = None
) -> Mapping[str, Any]:
    """The lines of a job's `[model]` by which a model gives logprobs: `params` and what else is corrected.

    Args:
        model: to be asked.
        endpoint: where.
        table: of which a model is named where this one gives none.
        params: the parameters that are wanted, to be corrected for this model; by default a maximum of 64 tokens.
    """
    params = {MAXIMA[endpoint][0]: _EXAMPLE_TOKENS} if params is None else params
    body = build_body(endpoint, model=model.name, prompt="", params=params)
    refusal = refusal_of(make_request(body, endpoint=endpoint, provider=""), model, table)
    return {"params": params, **({} if refusal is None else refusal.write)}


def _without_logprobs(request: Request, model: KnownModel, table: ModelTable) -> Refusal:
    """The refusal of a model that gives no logprobs, with one of the same service that does."""
    why = "gives no logprobs"
    if model.takes.reasons == "always":
        why += ", as it always reasons"
    service = model.service
    name = table.instead
    if service is None or not service.openai or (takes := table.find(name)) is None:
        return Refusal(model, f"at {service.name} gives no logprobs" if service is not None else why)
    other = _Draft.of(request, model._replace(takes=takes))
    list(other.correct(wants_logprobs=True))
    prefix = "openai/" if model.name.startswith("openai/") else ""
    return Refusal(model, why, {"name": prefix + name, "params": other.params})


def _most_alternatives(request: Request, model: KnownModel) -> int | None:
    """The most alternatives that a model gives, where a request asks for more; else None."""
    if not request.asks_logprobs:
        return None
    asked = request.body.get("logprobs" if request.endpoint == "completions" else "top_logprobs")
    number = whole_number(asked)
    limits = [model.takes.most_top_logprobs]
    if model.service is not None:
        limits.append(model.service.most_top_logprobs.get(request.endpoint))
    most = min((limit for limit in limits if limit is not None), default=None)
    return most if most is not None and number is not None and number > most else None


@dataclass(slots=True)
class _Draft:
    """The parameters of a request, as they are corrected for a model."""

    params: dict[str, Any]
    endpoint: str
    model: KnownModel
    is_changed: bool = False

    @classmethod
    def of(cls, request: Request, model: KnownModel) -> _Draft:
        """The parameters as they stand."""
        if request.asks_decisions:
            asked = ("model", "input", "questions")
            return cls({name: value for name, value in request.body.items() if name not in asked}, "decisions", model)
        params = {name: value for name, value in request.body.items() if name not in _NO_PARAMS and value is not None}
        include = request.body.get("include")
        if include is not None and include != [RESPONSES_LOGPROBS]:
            params["include"] = include
        if request.body.get("stream"):
            params["stream"] = True
        logprobs = request.body.get("logprobs")
        if (
            request.endpoint == "chat" and logprobs is not None and logprobs is not True
        ):  # in a server's own way, or not
            params["logprobs"] = logprobs
        return cls(params, request.endpoint, model)

    def correct(self, *, wants_logprobs: bool) -> Iterator[str]:
        """Correct what the model would refuse, and say what that is, as the ends of a sentence about the model."""
        if self._refuses:
            yield from self._respell()
        yield from self._set_effort(wants_logprobs=wants_logprobs)
        if self._refuses:
            yield from self._drop_refused()
            yield from self._drop_while_reasoning()

    def drop_of_other_endpoints(self) -> Iterator[str]:
        """Take out what no request for decisions has; a server of somebody's own may leave it out."""
        if self.model.service is None or not self._refuses:
            return
        if dropped := [name for name in self.params if name not in _OF_DECISIONS]:
            for name in dropped:
                self.drop(name)
            yield f'takes no {_listed(dropped)} at endpoint "decisions"'

    def raise_maximum(self) -> Iterator[str]:
        """Correct a maximum of output tokens that is smaller than the model or its service takes."""
        service = self.model.service
        of_service = 0 if service is None else service.fewest_output.get(self.endpoint, 0)
        fewest = max(of_service, self.model.takes.fewest_output or 0)
        for name in MAXIMA[self.endpoint]:
            most = whole_number(self.params.get(name))
            if most is not None and most < fewest:
                self.is_changed = True
                self.params[name] = max(fewest, _ENOUGH_TOKENS)
                yield f"takes no {name} below {fewest}"

    @property
    def _refuses(self) -> bool:
        """Whether what the model does not take is refused; gateways may leave it out."""
        return self.model.service is None or self.model.service.refuses_unknown

    def _respell(self) -> Iterator[str]:
        """Names that belong to another endpoint."""
        if self.model.service is None:
            return
        own = MAXIMA[self.endpoint]
        for name in _EVERY_MAXIMUM:
            if name in self.params and name not in own:
                self._rename(name, own[0])
                yield f'calls {name} {own[0]} at endpoint "{self.endpoint}"'
        effort = self.params.get("reasoning_effort")
        if self.endpoint == "responses" and effort is not None:
            del self.params["reasoning_effort"]
            self._write_effort(effort)
            yield 'takes the effort as reasoning = { effort = ... } at endpoint "responses"'
        elif self.endpoint == "chat" and isinstance(reasoning := self.params.get("reasoning"), dict):
            del self.params["reasoning"]
            self.is_changed = True
            if (effort := reasoning.get("effort")) is not None:
                self._write_effort(effort)
            yield 'takes the effort as reasoning_effort at endpoint "chat"'

    def _set_effort(self, *, wants_logprobs: bool) -> Iterator[str]:
        takes, effort = self.model.takes, self.effort
        if takes.reasons == "never" and effort is not None and self._refuses and self.model.service is not None:
            self._drop_effort()
            yield "does not reason and takes no effort"
        elif takes.reasons == "always" and effort == NO_EFFORT:
            self._drop_effort()
            yield "always reasons and takes no effort none"
        elif wants_logprobs and takes.logprobs == "without reasoning" and self.reasons:
            self._write_effort(NO_EFFORT)
            yield (
                "gives logprobs only at reasoning effort none"
                + (", which is not its default" if effort is None else f", and {effort} is asked")
            )

    def _drop_refused(self) -> Iterator[str]:
        for name in self.model.takes.refuses:
            if name not in self.params:
                continue
            if name == "max_tokens":
                self._rename(name, MAXIMA[self.endpoint][0])
                yield f"takes {MAXIMA[self.endpoint][0]} in place of max_tokens"
            else:
                self.drop(name)
                yield f"takes no {name}"

    def _drop_while_reasoning(self) -> Iterator[str]:
        if not self.reasons:
            return
        for name in self.model.takes.refuses_while_reasoning:
            if name in self.params and self.params[name] != _DEFAULTS.get(name):
                self.drop(name)
                yield f"takes no {name} while it reasons"

    @property
    def effort(self) -> Any:
        """The effort that is asked for; None where that is left to the model."""
        reasoning = self.params.get("reasoning")
        inner = reasoning if isinstance(reasoning, dict) else {}
        if inner.get("enabled") is False:  # OpenRouter
            return NO_EFFORT
        return self.params.get("reasoning_effort", inner.get("effort"))

    @property
    def reasons(self) -> bool:
        """Whether the model would reason."""
        kind, effort = self.model.takes.reasons, self.effort
        if kind == "when asked":
            return effort is not None and effort != NO_EFFORT
        return kind == "always" or (kind == "by default" and effort != NO_EFFORT)

    def _write_effort(self, effort: Any) -> None:
        """Set the effort, before all other parameters, as it is read first."""
        reasoning = self.params.get("reasoning")
        self._drop_effort()
        if self.endpoint == "responses":
            inner = reasoning if isinstance(reasoning, dict) else {}
            self.params = {"reasoning": {**inner, "effort": effort}, **self.params}
        else:
            self.params = {"reasoning_effort": effort, **self.params}

    def _drop_effort(self) -> None:
        self.is_changed = True
        self.params.pop("reasoning_effort", None)
        self.params.pop("reasoning", None)

    def _rename(self, name: str, wanted: str) -> None:
        """Give a parameter another name, in its place; one that is there already stays as it is."""
        self.is_changed = True
        self.params = {
            wanted if held == name else held: value
            for held, value in self.params.items()
            if held != name or wanted not in self.params
        }

    def drop(self, name: str) -> None:
        """Take a parameter out."""
        self.is_changed = True
        del self.params[name]


def _listed(reasons: list[str]) -> str:
    *first, last = reasons
    return f"{', '.join(first)}, and {last}" if first else last
