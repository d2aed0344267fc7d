"""The server of a job: can it be reached, does it know the model, and does it give logprobs?

Made with the parts that a run is made with: its transport, its decoder, its key.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.counted import counted
from logprob_store.decode.anomalies import count_odd_decisions
from logprob_store.decode.decoder import decode_answers
from logprob_store.doctor.check import Check, failed
from logprob_store.errors import CallError, InputError, StopRunError
from logprob_store.failure_policy import FAILURES
from logprob_store.models.shutdowns import is_soon
from logprob_store.prompts.input_files import closest_first
from logprob_store.request import make_request
from logprob_store.run.prompt_scoring import without_unscored
from logprob_store.run.resources import headers_of, key_of_environment, open_transport
from logprob_store.spending.request_tokens import CHOICES, MAXIMA, whole_number
from logprob_store.transport.model_list import list_models
from logprob_store.transport.rate_headers import http_date_s
from logprob_store.transport.reach import reach

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from logprob_store.doctor.check import State
    from logprob_store.job import Job
    from logprob_store.request import Answer, Request

_PATIENCE_S: Final = 60.0
"""The most seconds that a call of the doctor may take, whatever the job allows."""
_CLOCK_OFF_S: Final = 60.0
_FEWEST_OUTPUT_TOKENS: Final = {"responses": 16}
"""The fewest tokens that an endpoint lets a request ask for, where it is not one."""
_FEWEST_IF_REASONS: Final = 16
"""The same for models that may reason: they refuse a maximum that they cannot finish a message in."""
_REFUSED_KEY: Final = (401, 403)


@dataclass(slots=True)
class _Found:
    """What the checks found that later ones need: the times by the server's clock and by ours."""

    dates: list[tuple[str, float]] = field(default_factory=list)


async def check_server(job: Job, request: Request | None) -> AsyncIterator[Check]:
    """The checks of a live job's server, up to the first that makes the others useless.

    Args:
        job: asks it.
        request: the one to make, as `smallest_request` makes it; None makes no call.
    """
    try:
        key, headers = key_of_environment(job), headers_of(job, {})
    except InputError as error:
        yield failed("key", error)
        key = None
    else:
        yield Check("key", "ok", _key_in_words(job))
    try:
        async for step in reach(job.model.base_url):
            yield Check(step.name, "ok" if step.reached else "fail", step.said)
            if not step.reached:
                return
    except InputError as error:  # a proxy or certificates of the environment
        yield failed("address", error)
        return
    if key is None:
        return
    found = _Found()
    if job.model.azure_api_version is None:  # Azure's list has its models and not the deployments of them
        yield await _check_model(job, key, headers, found, is_called=request is not None)
    if request is not None:
        async for check in _check_call(job, request, found):
            yield check
    yield _check_clock(found)


def _key_in_words(job: Job) -> str:
    named = [name for name in (job.key_variable, *job.header_variables) if name is not None]
    return f"{' and '.join(named)} {'is' if len(named) == 1 else 'are'} set" if named else "the job names none"


async def _check_model(job: Job, key: str, headers: dict[str, str], found: _Found, *, is_called: bool) -> Check:
    try:
        listed = await list_models(
            base_url=job.model.base_url,
            api_key=key,
            headers=headers,
            query=job.model.query,
            timeout_s=min(job.timeout_s, _PATIENCE_S),
        )
    except (InputError, CallError) as error:
        return failed("model", error)
    if listed.date is not None:
        found.dates.append((listed.date, time.time()))
    if listed.refusal is not None and listed.status in _REFUSED_KEY:
        return failed("model", listed.refusal)
    if listed.names is None:
        why = f"HTTP {listed.status}" if listed.refusal is not None else "its answer is no list"
        return Check(
            "model", "ok", f"the server lists no models ({why}); a call shows whether it knows {job.model.name}"
        )
    if job.model.name in listed.names:
        shutdown = listed.shutdowns.get(job.model.name)
        if shutdown is not None and is_soon(shutdown, datetime.now(UTC).date()):
            return Check("model", "warn", f"the server lists {job.model.name}, which shuts down on {shutdown}")
        return Check("model", "ok", f"the server lists {job.model.name}")
    return check_unlisted(job, listed.names, is_called=is_called)


def check_unlisted(job: Job, names: list[str], *, is_called: bool) -> Check:
    """What to think of a model that its server does not list.

    Servers of a single model often take any name, and OpenAI's answers for some names that it does not list, such as
    fine-tuned models of another project: where a call is made, it shows that.

    Args:
        job: asks for the model.
        names: that the server lists.
        is_called: whether a call follows.
    """
    is_certain = job.model.base_url is None and not is_called
    near = closest_first(job.model.name, names) or "none"
    said = f"the server does not list {job.model.name!r} (model.name); it lists {near}"
    return Check("model", "fail" if is_certain else "warn", said)


def smallest_request(request: Request, *, openai: bool, may_reason: bool = False) -> Request:
    """A request with the same prompt and parameters, for one choice and as few tokens as can be asked for.

    Args:
        request: of the job.
        openai: whether OpenAI's API is asked, whose newer models refuse the older name of the maximum.
        may_reason: whether the model is one that reasons.
    """
    body = dict(request.body)
    given = [name for name in MAXIMA[request.endpoint] if body.get(name) is not None]
    fewest = _FEWEST_IF_REASONS if may_reason else _FEWEST_OUTPUT_TOKENS.get(request.endpoint, 1)
    # A score asks for none, or for as many as its server needs.
    usual = MAXIMA[request.endpoint]
    for name in given or (usual[:1] if openai else usual[-1:]):
        asked = whole_number(body.get(name))
        body[name] = fewest if asked is None else min(asked, fewest)
    for name in CHOICES:
        if name in body:
            body[name] = 1
    return make_request(
        body,
        endpoint=request.endpoint,
        provider=request.provider,
        prompt_index=request.prompt_index,
        prompt_id=request.prompt_id,
        sample_index=request.sample_index,
    )


async def _check_call(job: Job, request: Request, found: _Found) -> AsyncIterator[Check]:
    patient = job.limits.model_copy(update={"timeout_s": min(job.timeout_s, _PATIENCE_S)})
    try:
        async with open_transport(job.model_copy(update={"limits": patient})) as transport:
            answer = await transport(request)
    except CallError as error:
        yield _refused_call(error, tier=job.transport.tier)
        return
    except (InputError, StopRunError) as error:
        yield failed("call", error)
        return
    if (date := answer.headers.get("date")) is not None:
        found.dates.append((date, time.time()))
    took = "" if answer.latency_s is None else f" in {answer.latency_s:.2f} s"
    asked = "" if request.asks_decisions else ", with the fewest tokens asked for"
    yield Check("call", "ok", f"prompt {request.prompt_id!r} was answered{took}{asked}; it is not kept")
    if request.asks_decisions:
        yield _check_decisions(answer)
    elif job.model.logprobs:
        yield check_logprobs(job, answer)


def _refused_call(error: CallError, *, tier: str | None = None) -> Check:
    kind = FAILURES.get(error.error_type)
    if tier == "flex" and error.error_type in _FLEX_IS_FULL:
        return Check("call", "warn", f"{error}: the tier flex is slow, or has no room now; a run waits for it")
    if kind is not None and kind.pace == "limit":
        return Check("call", "warn", f"{error}: the server limits how fast it is asked, and a run waits")
    return _with_advice("call", error, error.error_type)


_FLEX_IS_FULL: Final = ("no_capacity", "timeout")


def _with_advice(name: str, error: Exception, error_type: str) -> Check:
    kind = FAILURES.get(error_type)
    advice = "" if kind is None else kind.what_to_change
    return Check(name, "fail", f"{str(error).rstrip('.')}. {advice}".rstrip())


def check_logprobs(job: Job, answer: Answer) -> Check:
    """Whether an answer has the logprobs that the job asks for, and as many alternatives."""
    decoded = decode_answers([answer])
    if job.model.mode == "score":
        decoded = without_unscored([answer], decoded)
    if decoded.failures:
        error = decoded.failures[0][1]
        return _with_advice("logprobs", error, error.error_type)
    if not decoded.tokens.num_rows:
        return Check("logprobs", "warn", "the answer has no token, and does not show whether there would be logprobs")
    asked = job.model.top_logprobs
    given = _most_alternatives(pl.DataFrame(pl.from_arrow(decoded.alternatives)))
    if given < asked:
        return Check(
            "logprobs",
            "warn",
            f"{given} alternatives of a token came, and model.top_logprobs asks for {asked}: the server gives no more, "
            "or wants a parameter of its own in model.params",
        )
    return Check("logprobs", "ok", f"of each token, with {given} alternatives")


def _check_decisions(answer: Answer) -> Check:
    """Whether an answer decides the questions of the job."""
    decoded = decode_answers([answer])
    if decoded.failures:
        error = decoded.failures[0][1]
        return _with_advice("decisions", error, error.error_type)
    counts = count_odd_decisions(decoded.decisions)
    asked = len(set(decoded.decisions["question_index"].to_pylist()))
    decided = asked - counts["refused_questions"] - counts["unanswered_questions"]
    state: State = "ok" if decided == asked else "warn"
    return Check("decisions", state, f"{decided} of {counted(asked, 'question')} decided")


def _most_alternatives(alternatives: pl.DataFrame) -> int:
    counts = alternatives.group_by("completion_id", "section", "position").len()["len"]
    return int(counts.max() or 0)  # type: ignore[arg-type]  # of integers


def _check_clock(found: _Found) -> Check:
    """Our clock against the server's: rate limits, waits and certificates are times."""
    offs = [ours - theirs for date, ours in found.dates if (theirs := http_date_s(date)) is not None]
    if not offs:
        return Check("clock", "ok", "the server does not say its time")
    off = min(offs, key=abs)
    if abs(off) <= _CLOCK_OFF_S:
        return Check("clock", "ok", "agrees with the server's")
    now = formatdate(time.time(), usegmt=True)
    return Check(
        "clock",
        "warn",
        f"this machine's is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the server's (it is {now} here): "
        "set it, by NTP, or waits and certificates are misread",
    )
